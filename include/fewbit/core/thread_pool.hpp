// ThreadPool: an Executor on std::thread for programs that have no scheduler of their own (ours do not).
// Tasks are handed out one by one, so uneven tasks balance themselves. Workers sleep between regions, unless somebody
// said that more are to come (KeepAwake): then they look for the next one for a while before they sleep.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <mutex>
#include <thread>
#include <vector>

#include "fewbit/core/cpu.hpp"
#include "fewbit/core/executor.hpp"

namespace fewbit::inline v0 {

class ThreadPool final : public Executor {
public:
    /// `threads` lanes, the caller's included; 0 asks for one per hardware thread. Where the system refuses a
    /// thread the pool is smaller: workers() tells.
    explicit ThreadPool(std::size_t threads = 0) {
        if (threads == 0) threads = std::thread::hardware_concurrency();
        for (std::size_t lane = 1; lane < threads; ++lane) {
#if defined(__cpp_exceptions)
            try {
                threads_.emplace_back([this, lane] { serve(lane); });
            } catch (...) {
                break;
            }
#else
            threads_.emplace_back([this, lane] { serve(lane); });
#endif
        }
    }
    ~ThreadPool() override {
        {
            const std::lock_guard lock(mutex_);
            stopping_.store(true, std::memory_order_release);
        }
        wake_.notify_all();
        for (std::thread& thread : threads_) thread.join();
    }
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    [[nodiscard]] std::size_t workers() const noexcept override { return threads_.size() + 1; }

    /// Several threads may call it: their regions run one after the other. A body that calls it again
    /// (nesting) runs the inner region on its own lane.
    void parallel_for(std::size_t tasks, Body body) override {
        if (inside_ == this || threads_.empty() || tasks <= 1) {
            const std::size_t lane = inside_ == this ? lane_ : 0;
            if (inside_ == this) {
                for (std::size_t task = 0; task < tasks; ++task) body(task, lane);
                return;
            }
            const std::lock_guard region(region_);
            run_inside(0, [&] {
                for (std::size_t task = 0; task < tasks; ++task) body(task, 0);
            });
            return;
        }
        const std::lock_guard region(region_);
        bool anyone_sleeps = false;
        {
            const std::lock_guard lock(mutex_);
            body_ = &body;
            tasks_ = tasks;
            next_.store(0, std::memory_order_relaxed);
            busy_.store(threads_.size(), std::memory_order_relaxed);
            generation_.fetch_add(1, std::memory_order_release);
            anyone_sleeps = sleeping_ != 0;
        }
        if (anyone_sleeps) wake_.notify_all();
        run_inside(0, [&] { take_tasks(body, tasks, 0); });
        look_for([this] { return busy_.load(std::memory_order_acquire) == 0; });
        std::unique_lock lock(mutex_);
        done_.wait(lock, [this] { return busy_.load(std::memory_order_relaxed) == 0; });
        body_ = nullptr;
    }

    /// Threads that find no region look for one for up to patience, then they sleep. They yield to others that
    /// want to run, so that more threads than processors cost time but stop nothing. After the last rest() they
    /// sleep at once.
    void keep_awake() noexcept override { awake_.fetch_add(1, std::memory_order_relaxed); }
    void rest() noexcept override { awake_.fetch_sub(1, std::memory_order_relaxed); }

private:
    template <class F>
    void run_inside(std::size_t lane, F&& work) {
        const ThreadPool* outer = inside_;
        const std::size_t outer_lane = lane_;
        inside_ = this;
        lane_ = lane;
        work();
        inside_ = outer;
        lane_ = outer_lane;
    }

    void take_tasks(Body body, std::size_t tasks, std::size_t lane) {
        for (std::size_t task = next_.fetch_add(1); task < tasks; task = next_.fetch_add(1)) body(task, lane);
    }

    void serve(std::size_t lane) {
        std::size_t seen = 0;
        const auto called = [&] {
            return stopping_.load(std::memory_order_acquire) ||
                   generation_.load(std::memory_order_acquire) != seen;
        };
        for (;;) {
            look_for(called);
            std::unique_lock lock(mutex_);
            ++sleeping_;
            wake_.wait(lock, called);
            --sleeping_;
            if (stopping_.load(std::memory_order_relaxed)) return;
            seen = generation_.load(std::memory_order_relaxed);
            const Body body = *body_;
            const std::size_t tasks = tasks_;
            lock.unlock();
            run_inside(lane, [&] { take_tasks(body, tasks, lane); });
            lock.lock();
            if (busy_.fetch_sub(1, std::memory_order_acq_rel) == 1) done_.notify_one();
        }
    }

    /// Returns when found() is true, when nobody asks to stay awake, or when patience ends. A yield that comes back late
    /// says that others want the processor: then nobody looks for a while, because who sleeps is started sooner, when
    /// there is work, than who has used up its share of time by looking.
    template <class Found>
    void look_for(Found&& found) const {
        using Clock = std::chrono::steady_clock;
        using std::chrono::microseconds;
        constexpr microseconds patience{200}, late{200}, a_while{20000};
        constexpr int looks_per_yield = 32;
        Clock::time_point end{};
        while (awake_.load(std::memory_order_relaxed) != 0) {
            for (int look = 0; look < looks_per_yield; ++look) {
                if (found()) return;
                cpu_pause();
            }
            const Clock::time_point now = Clock::now();
            if (now.time_since_epoch().count() < crowded_until_.load(std::memory_order_relaxed)) return;
            if (end == Clock::time_point{}) end = now + patience;
            if (now > end) return;
            std::this_thread::yield();
            if (const auto back = Clock::now(); back - now > late)
                crowded_until_.store((back + a_while).time_since_epoch().count(), std::memory_order_relaxed);
        }
    }

    inline static thread_local const ThreadPool* inside_ = nullptr;  // the pool whose region this thread runs
    inline static thread_local std::size_t lane_ = 0;

    std::mutex region_;  // one region at a time
    std::mutex mutex_;   // guards what follows; atomic is what threads that are awake look at without it
    std::condition_variable wake_;
    std::condition_variable done_;
    const Body* body_ = nullptr;
    std::size_t tasks_ = 0;
    std::size_t sleeping_ = 0;
    std::atomic<std::size_t> busy_{0};
    std::atomic<std::size_t> generation_{0};
    std::atomic<bool> stopping_{false};
    std::atomic<std::size_t> next_{0};
    std::atomic<int> awake_{0};
    mutable std::atomic<std::chrono::steady_clock::rep> crowded_until_{0};
    std::vector<std::thread> threads_;
};

}  // namespace fewbit::inline v0
