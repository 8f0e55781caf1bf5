// Executor: how the library asks its caller for threads. fewbit starts none and leaves none spinning.
//
// Adapters: InlineExecutor (here), ThreadPool (thread_pool.hpp, used by our programs), OpenMpExecutor
// (openmp_executor.hpp). A host with its own scheduler implements two functions.
#pragma once

#include <cstddef>
#include <memory>
#include <type_traits>
#include <utility>

namespace fewbit::inline v0 {

template <class Signature>
class FunctionRef;

/// A reference to something callable, valid while that lives; like std::function without the allocation.
template <class R, class... Args>
class FunctionRef<R(Args...)> {
public:
    template <class F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, FunctionRef> && std::is_invocable_r_v<R, F&, Args...>)
        FunctionRef(F&& function)
    noexcept
        : object_(const_cast<void*>(static_cast<const void*>(std::addressof(function)))),
          call_([](void* object, Args... args) -> R {
              return (*static_cast<std::remove_reference_t<F>*>(object))(std::forward<Args>(args)...);
          }) {}

    R operator()(Args... args) const { return call_(object_, std::forward<Args>(args)...); }

private:
    void* object_;
    R (*call_)(void*, Args...);
};

class Executor {
public:
    using Body = FunctionRef<void(std::size_t task, std::size_t worker)>;

    virtual ~Executor() = default;

    /// How many calls of a body may run at the same time; at least 1.
    [[nodiscard]] virtual std::size_t workers() const noexcept = 0;

    /// Calls body(task, worker) once for every task in [0, tasks), in any order, and returns when all are
    /// done. worker < workers() names the lane: two calls that run at the same time have different lanes, so
    /// a lane can index scratch memory. Bodies do not throw.
    virtual void parallel_for(std::size_t tasks, Body body) = 0;

    /// A hint: until as many calls of rest(), regions follow one another within microseconds, and an executor may
    /// keep its threads awake in between. Nothing depends on it but speed. KeepAwake calls both.
    virtual void keep_awake() noexcept {}
    virtual void rest() noexcept {}
};

/// Runs everything on the calling thread.
class InlineExecutor final : public Executor {
public:
    [[nodiscard]] std::size_t workers() const noexcept override { return 1; }
    void parallel_for(std::size_t tasks, Body body) override {
        for (std::size_t task = 0; task < tasks; ++task) body(task, 0);
    }
};

/// A queue of a device's work: a cudaStream_t; null is the device's default stream.
struct DeviceStream {
    void* handle = nullptr;
};

/// Where work runs: on the CPU through an executor, on a GPU (fewbit/cuda) in a stream. Default: the calling thread, the default stream.
/// Copied freely; executor and stream must outlive the calls that use them.
class ExecutionContext {
public:
    ExecutionContext() = default;
    ExecutionContext(Executor& executor) : executor_(&executor) {}
    ExecutionContext(DeviceStream stream) : stream_(stream) {}
    ExecutionContext(Executor& executor, DeviceStream stream) : executor_(&executor), stream_(stream) {}

    [[nodiscard]] DeviceStream stream() const noexcept { return stream_; }
    [[nodiscard]] std::size_t workers() const noexcept { return executor_ ? executor_->workers() : 1; }
    void parallel_for(std::size_t tasks, Executor::Body body) const {
        if (executor_ != nullptr) return executor_->parallel_for(tasks, body);
        InlineExecutor{}.parallel_for(tasks, body);
    }

private:
    friend class KeepAwake;
    Executor* executor_ = nullptr;
    DeviceStream stream_;
};

/// While it lives, regions follow closely (Executor::keep_awake).
class KeepAwake {
public:
    explicit KeepAwake(ExecutionContext context) noexcept : executor_(context.executor_) {
        if (executor_ != nullptr) executor_->keep_awake();
    }
    ~KeepAwake() {
        if (executor_ != nullptr) executor_->rest();
    }
    KeepAwake(const KeepAwake&) = delete;
    KeepAwake& operator=(const KeepAwake&) = delete;

private:
    Executor* executor_;
};

}  // namespace fewbit::inline v0
