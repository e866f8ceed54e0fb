// segfuse.h from C++17: handles that own, shared by threads that compute while others destroy.
#include "check.h"

#include <atomic>
#include <cstdint>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

// A handle that is destroyed with its scope.
template <typename Handle, segfuse_status (*Destroy)(Handle)>
class Owned {
public:
    Owned() = default;
    Owned(Owned &&other) noexcept : handle_(std::exchange(other.handle_, Handle{})) {}
    Owned &operator=(Owned &&other) noexcept {
        Owned moved(std::move(other));
        std::swap(handle_, moved.handle_);
        return *this;
    }
    Owned(const Owned &) = delete;
    Owned &operator=(const Owned &) = delete;
    ~Owned() { Destroy(handle_); }
    Handle *out() { return &handle_; }
    Handle get() const { return handle_; }

private:
    Handle handle_{};
};

using Device = Owned<segfuse_device, segfuse_device_destroy>;
using Plan = Owned<segfuse_plan, segfuse_plan_destroy>;

Plan planned(const std::string &spec) {
    segfuse_problem problem{};
    problem.size = sizeof problem;
    problem.samples = SAMPLES;
    problem.classes = CLASSES;
    problem.spatial[0] = VOXELS;
    Plan plan;
    OK(segfuse_plan_create(spec.c_str(), &problem, plan.out()));
    return plan;
}

struct Arrays {
    std::vector<float> logits = std::vector<float>(ELEMENTS);
    std::vector<float> gradient = std::vector<float>(ELEMENTS);
    std::vector<std::uint8_t> labels = std::vector<std::uint8_t>(SAMPLES * VOXELS);

    Arrays() { fill(logits.data(), labels.data()); }

    // The status, with the loss.
    std::pair<segfuse_status, double> run(segfuse_device device, segfuse_plan plan) {
        segfuse_buffers buffers{};
        buffers.size = sizeof buffers;
        buffers.prediction = logits.data();
        buffers.prediction_bytes = logits.size() * sizeof(float);
        buffers.target = labels.data();
        buffers.target_bytes = labels.size();
        buffers.gradient = gradient.data();
        buffers.gradient_bytes = gradient.size() * sizeof(float);
        double loss = 0.0;
        segfuse_call call{};
        call.size = sizeof call;
        call.losses = &loss;
        call.loss_count = 1;
        segfuse_status status = segfuse_forward_backward(device, plan, &buffers, 1, &call);
        return {status, loss};
    }
};

constexpr int THREADS = 4;
constexpr int CALLS = 8;

// The same plan and device from several threads: the same bits in each.
void shared_plan(segfuse_device device) {
    Plan plan = planned("dice + ce");
    Arrays expected;
    const std::pair<segfuse_status, double> first = expected.run(device, plan.get());
    CHECK(first.first == SEGFUSE_OK);
    std::atomic<int> different{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < THREADS; ++t) {
        threads.emplace_back([&] {
            Arrays arrays;
            for (int i = 0; i < CALLS; ++i) {
                const bool same = arrays.run(device, plan.get()) == first && arrays.gradient == expected.gradient;
                different += !same;
            }
        });
    }
    for (auto &thread : threads) {
        thread.join();
    }
    CHECK(different == 0);
}

// A plan that is destroyed while others compute with it: a call ends well, or finds that the plan is gone.
void destroyed_meanwhile(segfuse_device device) {
    Plan plan = planned("dice + ce");
    const segfuse_plan handle = plan.get();
    std::atomic<int> others{0}, started{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < THREADS; ++t) {
        threads.emplace_back([&] {
            Arrays arrays;
            ++started;
            for (segfuse_status status = SEGFUSE_OK; status == SEGFUSE_OK;) {
                status = arrays.run(device, handle).first;
                others += status != SEGFUSE_OK && status != SEGFUSE_INVALID_HANDLE;
            }
        });
    }
    while (started < THREADS) {
        std::this_thread::yield();
    }
    plan = Plan{};
    for (auto &thread : threads) {
        thread.join();
    }
    CHECK(others == 0);
}

// The text of an error belongs to the thread that made it.
void errors_of_threads() {
    segfuse_plan none{};
    segfuse_sizes sizes;
    CHECK_STATUS(segfuse_plan_sizes(none, &sizes), SEGFUSE_INVALID_HANDLE);
    const std::string before = segfuse_last_error();
    CHECK(!before.empty());
    std::string at_first, after;
    std::thread other([&] {
        at_first = segfuse_last_error();
        segfuse_list_losses(99, nullptr, 0, nullptr);
        after = segfuse_last_error();
    });
    other.join();
    CHECK(at_first.empty() && after.find("99") != std::string::npos);
    CHECK(before == segfuse_last_error());
}

} // namespace

int main() {
    Device device;
    OK(segfuse_device_create_cpu(2, device.out()));
    shared_plan(device.get());
    destroyed_meanwhile(device.get());
    errors_of_threads();
    std::printf("%d failures\n", failures);
    return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
