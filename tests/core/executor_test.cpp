// Executors: every task once, lanes that never collide, nesting, concurrent callers.
#include "fewbit/core/executor.hpp"

#include <atomic>
#include <chrono>
#include <ctime>
#include <memory>
#include <thread>
#include <vector>

#include "fewbit/core/thread_pool.hpp"
#include "support/catch.hpp"

#if defined(_OPENMP)
#include "fewbit/core/openmp_executor.hpp"
#endif

using namespace fewbit;

namespace {

/// Every task in [0, tasks) ran once, on a lane below workers(), and no lane was used by two at a time.
void check_law(Executor& executor, std::size_t tasks) {
    std::vector<std::atomic<int>> ran(tasks);
    std::vector<std::atomic<int>> inside(executor.workers());
    std::atomic<int> wrong{0};
    executor.parallel_for(tasks, [&](std::size_t task, std::size_t lane) {
        if (task >= tasks || lane >= inside.size()) {
            ++wrong;
            return;
        }
        if (inside[lane]++ != 0) ++wrong;
        ++ran[task];
        std::this_thread::yield();
        --inside[lane];
    });
    for (const auto& count : ran) wrong += count != 1;
    CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("executor: each task once and lanes do not collide", "[core][executor]") {
    for (const std::size_t tasks : {0, 1, 2, 6, 7, 8, 1000}) {
        INFO("tasks " << tasks);
        InlineExecutor inline_executor;
        check_law(inline_executor, tasks);
        for (const std::size_t lanes : {1, 2, 7}) {
            ThreadPool pool(lanes);
            CHECK(pool.workers() >= 1);
            CHECK(pool.workers() <= lanes);
            check_law(pool, tasks);
        }
#if defined(_OPENMP)
        for (const int lanes : {1, 2, 7}) {
            OpenMpExecutor open_mp(lanes);
            CHECK(open_mp.workers() == static_cast<std::size_t>(lanes));
            check_law(open_mp, tasks);
        }
#endif
    }
}

TEST_CASE("executor: a pool serves many short regions", "[core][executor]") {
    ThreadPool pool(7);
    std::atomic<std::size_t> sum{0};
    for (int region = 0; region < 2000; ++region)
        pool.parallel_for(3, [&](std::size_t task, std::size_t) { sum += task; });
    CHECK(sum == 6000);
}

TEST_CASE("executor: a pool that is kept awake does the same work, also with more threads than processors") {
    for (const std::size_t lanes : {1, 2, 7, 40}) {
        ThreadPool pool(lanes);
        for (int round = 0; round < 3; ++round) {
            const KeepAwake awake(pool);
            const KeepAwake twice(pool);
            for (const std::size_t tasks : {0, 1, 2, 6, 7, 8, 200}) check_law(pool, tasks);
            std::atomic<std::size_t> sum{0};
            for (int region = 0; region < 200; ++region)
                pool.parallel_for(3, [&](std::size_t task, std::size_t) { sum += task; });
            CHECK(sum == 600);
        }
        check_law(pool, 8);
    }
}

TEST_CASE("executor: several threads call one pool that is kept awake and put to rest in between") {
    ThreadPool pool(3);
    std::atomic<int> ran{0};
    std::vector<std::thread> callers;
    for (int caller = 0; caller < 4; ++caller)
        callers.emplace_back([&, caller] {
            for (int region = 0; region < 100; ++region) {
                const KeepAwake awake(pool);
                pool.parallel_for(4, [&](std::size_t, std::size_t) { ++ran; });
                if (region % 16 == caller) std::this_thread::sleep_for(std::chrono::microseconds(300));
            }
        });
    for (std::thread& caller : callers) caller.join();
    CHECK(ran == 1600);
}

TEST_CASE("executor: threads that are kept awake sleep when nothing comes, and when they are let go") {
    // Processor time of this process, all threads together, over a tenth of a second in which nobody works. Six threads
    // that look for work all the time would use at least as much on one processor.
    const auto idle_seconds = [] {
        const std::clock_t start = std::clock();
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
        return static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    };
    ThreadPool pool(7);
    {
        const KeepAwake awake(pool);
        check_law(pool, 100);
        CHECK(idle_seconds() < 0.05);
        check_law(pool, 100);
    }
    check_law(pool, 100);
    CHECK(idle_seconds() < 0.05);
}

TEST_CASE("executor: staying awake is a hint that other executors need not take") {
    InlineExecutor executor;
    const KeepAwake awake(executor), nobody{ExecutionContext()};
    check_law(executor, 5);
}

TEST_CASE("executor: nested regions run on their own lane", "[core][executor]") {
    for (const std::size_t lanes : {1, 2, 7}) {
        ThreadPool pool(lanes);
        std::atomic<int> ran{0}, wrong{0};
        pool.parallel_for(8, [&](std::size_t, std::size_t outer) {
            pool.parallel_for(5, [&](std::size_t, std::size_t inner) {
                ++ran;
                wrong += inner != outer;
            });
        });
        CHECK(ran == 40);
        CHECK(wrong == 0);
    }
    ThreadPool outer(2), inner(3);  // of different pools
    std::atomic<int> ran{0};
    outer.parallel_for(4, [&](std::size_t, std::size_t) {
        inner.parallel_for(6, [&](std::size_t, std::size_t) { ++ran; });
    });
    CHECK(ran == 24);
}

TEST_CASE("executor: several threads may call one pool", "[core][executor]") {
    for (const std::size_t lanes : {1, 2, 7}) {
        ThreadPool pool(lanes);
        std::vector<std::atomic<int>> inside(pool.workers());
        std::atomic<int> ran{0}, wrong{0};
        std::vector<std::thread> callers;
        for (int caller = 0; caller < 4; ++caller)
            callers.emplace_back([&] {
                for (int region = 0; region < 50; ++region)
                    pool.parallel_for(static_cast<std::size_t>(region % 9),
                                      [&](std::size_t, std::size_t lane) {
                                          if (inside[lane]++ != 0) ++wrong;
                                          ++ran;
                                          --inside[lane];
                                      });
            });
        for (std::thread& caller : callers) caller.join();
        int expected = 0;
        for (int region = 0; region < 50; ++region) expected += 4 * (region % 9);
        CHECK(ran == expected);
        CHECK(wrong == 0);
    }
}

TEST_CASE("executor: the default context runs on the calling thread", "[core][executor]") {
    const ExecutionContext context;
    CHECK(context.workers() == 1);
    std::vector<std::size_t> order;
    context.parallel_for(4, [&](std::size_t task, std::size_t lane) { order.push_back(task + 10 * lane); });
    CHECK(order == std::vector<std::size_t>{0, 1, 2, 3});
    ThreadPool pool(2);
    CHECK(ExecutionContext(pool).workers() == pool.workers());
}

#if !defined(_OPENMP)
TEST_CASE("executor: OpenMP adapter", "[core][executor]") {
    FEWBIT_SKIP("OpenMpExecutor: this build has no OpenMP");
}
#endif
