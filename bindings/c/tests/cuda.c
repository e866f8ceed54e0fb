/* The CUDA functions of segfuse.h, on the driver whose file is the argument: the same numbers as on the CPU, and a status for every
 * misuse that can be seen. */
#include "check.h"

#include <dlfcn.h>

/* Of the driver's interface, what an engine needs here. */
static struct {
    int (*init)(unsigned);
    int (*device_get)(int *, int);
    int (*context_retain)(void **, int);
    int (*context_set)(void *);
    int (*allocate)(uint64_t *, size_t);
    int (*release)(uint64_t);
    int (*to_device)(uint64_t, const void *, size_t);
    int (*to_host)(void *, uint64_t, size_t);
    int (*stream_create)(void **, unsigned);
    int (*stream_wait)(void *);
} driver;

static void symbol(void *library, const char *name, void *function) {
    void *found = dlsym(library, name);
    if (found == NULL) {
        fprintf(stderr, "%s: %s\n", name, dlerror());
        exit(EXIT_FAILURE);
    }
    memcpy(function, &found, sizeof found);
}

static void load(const char *path) {
    void *library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    if (library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        exit(EXIT_FAILURE);
    }
    symbol(library, "cuInit", &driver.init);
    symbol(library, "cuDeviceGet", &driver.device_get);
    symbol(library, "cuDevicePrimaryCtxRetain", &driver.context_retain);
    symbol(library, "cuCtxSetCurrent", &driver.context_set);
    symbol(library, "cuMemAlloc_v2", &driver.allocate);
    symbol(library, "cuMemFree_v2", &driver.release);
    symbol(library, "cuMemcpyHtoD_v2", &driver.to_device);
    symbol(library, "cuMemcpyDtoH_v2", &driver.to_host);
    symbol(library, "cuStreamCreate", &driver.stream_create);
    symbol(library, "cuStreamSynchronize", &driver.stream_wait);
}

static void *on_device(const void *host, size_t bytes) {
    uint64_t address = 0;
    CHECK(driver.allocate(&address, bytes) == 0);
    CHECK(host == NULL || driver.to_device(address, host, bytes) == 0);
    return (void *)(uintptr_t)address;
}

static void copy_back(void *host, const void *device, size_t bytes) {
    CHECK(driver.to_host(host, (uint64_t)(uintptr_t)device, bytes) == 0);
}

static float logits[ELEMENTS], expected[ELEMENTS];
static uint8_t labels[SAMPLES * VOXELS];
static double loss;

static segfuse_plan plan;
static segfuse_buffers buffers;
static void *stream;

static void described(void) {
    fill(logits, labels);
    segfuse_problem problem = {0};
    problem.size = sizeof problem;
    problem.samples = SAMPLES;
    problem.classes = CLASSES;
    problem.spatial[0] = VOXELS;
    OK(segfuse_plan_create("dice + ce", &problem, &plan));
    buffers.size = sizeof buffers;
    OK(segfuse_plan_buffers(plan, 0, &buffers));

    segfuse_device cpu;
    OK(segfuse_device_create("cpu", &cpu));
    segfuse_buffers host = buffers;
    host.prediction = logits;
    host.target = labels;
    host.gradient = expected;
    segfuse_call call = {0};
    call.size = sizeof call;
    call.losses = &loss;
    call.loss_count = 1;
    OK(segfuse_forward_backward(cpu, plan, &host, 1, &call));
    OK(segfuse_device_destroy(cpu));

    buffers.prediction = on_device(logits, sizeof logits);
    buffers.target = on_device(labels, sizeof labels);
    buffers.gradient = on_device(NULL, sizeof expected);
}

static void check_gradient(const void *device, float factor) {
    float got[ELEMENTS];
    copy_back(got, device, sizeof got);
    for (size_t i = 0; i < ELEMENTS; ++i) {
        CHECK(fabsf(got[i] - factor * expected[i]) < 1e-7F * factor);
    }
}

static void check_result(segfuse_cuda_plan prepared, const void *result) {
    segfuse_cuda_sizes sizes;
    OK(segfuse_cuda_plan_sizes(prepared, &sizes));
    CHECK(sizes.result_numbers == 5 && sizes.result_bytes <= 256);
    unsigned char bytes[256];
    float single;
    double numbers[5];
    copy_back(bytes, result, sizes.result_bytes);
    memcpy(&single, bytes, sizeof single);
    memcpy(numbers, bytes + sizes.result_doubles_at, sizeof numbers);
    CHECK(fabs(numbers[0] - loss) < 1e-6 && fabs(single - loss) < 1e-6);
    CHECK(fabs(numbers[1] + numbers[2] - loss) < 1e-6);
    CHECK(numbers[3] == SAMPLES * VOXELS && numbers[4] == 0.0);
}

static void apart(segfuse_cuda_device device) {
    segfuse_cuda_plan prepared = {0};
    OK(segfuse_cuda_prepare(device, plan, 0, &prepared));
    void *result = NULL;
    OK(segfuse_cuda_result(prepared, NULL, &result));
    OK(segfuse_cuda_forward(prepared, &buffers, 1, NULL, stream));
    CHECK(driver.stream_wait(stream) == 0);
    check_result(prepared, result);
    OK(segfuse_cuda_forward_backward(prepared, &buffers, 1, NULL, stream));
    CHECK(driver.stream_wait(stream) == 0);
    check_result(prepared, result);
    check_gradient(buffers.gradient, 1.0F);

    segfuse_buffers bad = buffers;
    bad.prediction = NULL;
    CHECK_STATUS(segfuse_cuda_forward(prepared, &bad, 1, NULL, stream), SEGFUSE_INVALID_BUFFER);
    bad = buffers;
    bad.target_bytes = 1;
    CHECK_STATUS(segfuse_cuda_forward(prepared, &bad, 1, NULL, stream), SEGFUSE_INVALID_BUFFER);
    bad = buffers;
    bad.prediction = logits;
    CHECK_STATUS(segfuse_cuda_forward(prepared, &bad, 1, NULL, stream), SEGFUSE_INVALID_BUFFER);
    bad = buffers;
    bad.gradient = NULL;
    CHECK_STATUS(segfuse_cuda_forward_backward(prepared, &bad, 1, NULL, stream), SEGFUSE_INVALID_BUFFER);
    bad.gradient = (char *)buffers.gradient + 2;
    CHECK_STATUS(segfuse_cuda_forward_backward(prepared, &bad, 1, NULL, stream), SEGFUSE_INVALID_BUFFER);
    CHECK_STATUS(segfuse_cuda_forward(prepared, &buffers, 0, NULL, stream), SEGFUSE_OTHER_PLAN);
    OK(segfuse_cuda_destroy(prepared));
    CHECK_STATUS(segfuse_cuda_forward(prepared, &buffers, 1, NULL, stream), SEGFUSE_INVALID_HANDLE);
}

/* In place, in a workspace and with a factor of the caller. */
static void in_place(segfuse_cuda_device device) {
    segfuse_cuda_plan prepared = {0};
    OK(segfuse_cuda_prepare(device, plan, SEGFUSE_CUDA_IN_PLACE | SEGFUSE_CUDA_CALLERS_WORKSPACE, &prepared));
    segfuse_cuda_sizes sizes;
    OK(segfuse_cuda_plan_sizes(prepared, &sizes));
    float factor = 2.0F;
    segfuse_buffers own = buffers;
    own.prediction = on_device(logits, sizeof logits);
    own.gradient = NULL;
    segfuse_cuda_call call = {0};
    call.size = sizeof call;
    CHECK_STATUS(segfuse_cuda_forward_backward(prepared, &own, 1, &call, stream), SEGFUSE_INVALID_BUFFER);
    call.grad_output = on_device(&factor, sizeof factor);
    call.result = on_device(NULL, sizes.result_bytes);
    call.workspace = on_device(NULL, sizes.workspace_bytes);
    call.workspace_bytes = sizes.workspace_bytes - 1;
    CHECK_STATUS(segfuse_cuda_forward_backward(prepared, &own, 1, &call, stream), SEGFUSE_INVALID_BUFFER);
    call.workspace_bytes = sizes.workspace_bytes;
    OK(segfuse_cuda_forward_backward(prepared, &own, 1, &call, stream));
    CHECK(driver.stream_wait(stream) == 0);
    check_result(prepared, call.result);
    check_gradient(own.prediction, factor);
    OK(segfuse_cuda_destroy(prepared));
    const void *all[] = {own.prediction, call.grad_output, call.result, call.workspace};
    for (size_t i = 0; i < sizeof all / sizeof *all; ++i) {
        CHECK(driver.release((uint64_t)(uintptr_t)all[i]) == 0);
    }
}

static void stages(segfuse_cuda_device device) {
    segfuse_cuda_plan prepared = {0}, whole = {0};
    OK(segfuse_cuda_prepare(device, plan, SEGFUSE_CUDA_SPLIT, &prepared));
    OK(segfuse_cuda_prepare(device, plan, 0, &whole));
    void *moments = NULL, *result = NULL;
    uint64_t count = 0;
    OK(segfuse_cuda_moments(prepared, 0, NULL, &moments, &count));
    OK(segfuse_cuda_result(prepared, NULL, &result));
    OK(segfuse_cuda_reduce(prepared, &buffers, 1, NULL, stream));
    CHECK(driver.stream_wait(stream) == 0);
    /* Out and in again, as for an all-reduce. */
    double *sums = malloc(count * sizeof *sums);
    CHECK(sums != NULL);
    copy_back(sums, moments, count * sizeof *sums);
    CHECK(driver.to_device((uint64_t)(uintptr_t)moments, sums, count * sizeof *sums) == 0);
    free(sums);
    OK(segfuse_cuda_finish(prepared, NULL, stream));
    OK(segfuse_cuda_gradient(prepared, &buffers, 1, NULL, stream));
    CHECK(driver.stream_wait(stream) == 0);
    check_result(prepared, result);
    check_gradient(buffers.gradient, 1.0F);
    CHECK_STATUS(segfuse_cuda_reduce(whole, &buffers, 1, NULL, stream), SEGFUSE_INVALID_PROBLEM);
    CHECK_STATUS(segfuse_cuda_moments(prepared, 1, NULL, &moments, &count), SEGFUSE_OTHER_PLAN);
    OK(segfuse_cuda_destroy(prepared));
    OK(segfuse_cuda_destroy(whole));
}

int main(int argc, char **argv) {
    segfuse_cuda_device device = {0}, other = {0};
    segfuse_cuda_plan prepared = {0};
    if (argc != 2) {
        fprintf(stderr, "usage: %s DRIVER\n", argv[0]);
        return EXIT_FAILURE;
    }
    load(argv[1]);
    void *context = NULL;
    int gpu = 0;
    CHECK(driver.init(0) == 0 && driver.device_get(&gpu, 0) == 0);
    CHECK(driver.context_retain(&context, gpu) == 0 && driver.context_set(context) == 0);
    CHECK(driver.stream_create(&stream, 1) == 0);
    described();

    CHECK_STATUS(segfuse_cuda_device_create(99, &device), SEGFUSE_NO_DEVICE);
    CHECK_STATUS(segfuse_cuda_device_create(0, NULL), SEGFUSE_NULL_POINTER);
    CHECK_STATUS(segfuse_cuda_device_create_in(NULL, &device), SEGFUSE_INVALID_BUFFER);
    CHECK_STATUS(segfuse_cuda_prepare(device, plan, 0, &prepared), SEGFUSE_INVALID_HANDLE);
    OK(segfuse_cuda_device_create(0, &device));
    OK(segfuse_cuda_device_create_in(context, &other));
    CHECK_STATUS(segfuse_cuda_prepare(device, plan, 8, &prepared), SEGFUSE_INVALID_ARGUMENT);
    apart(device);
    in_place(other);
    stages(device);
    OK(segfuse_cuda_device_destroy(device));
    OK(segfuse_cuda_device_destroy(other));
    OK(segfuse_plan_destroy(plan));
    printf("%d failures\n", failures);
    return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
