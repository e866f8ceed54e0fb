/*
 * segfuse: image-segmentation losses and their gradients, fused. docs/c.md is the page with examples.
 *
 * Errors.    Every function that can fail returns a segfuse_status, 0 when all went well; segfuse_last_error() says in words
 *            and numbers what was wrong. No function ends the program, but for the allocator of the library when no memory
 *            is left.
 * Objects.   Devices, plans, evaluations, moments and coefficients are handles: small structs that are passed by value and
 *            compared by `id`. A handle that was destroyed or never made gives SEGFUSE_INVALID_HANDLE, never undefined
 *            behaviour: no id is used twice. What a function makes, the caller destroys; an object may be destroyed while
 *            another thread still computes with it.
 * Memory.    Buffers, arrays and texts belong to the caller and are used during the call alone. What cannot be known, such as
 *            whether an address really holds as many bytes as the call says, is the caller's promise.
 * Threads.   Every function may be called from any thread at any time, with the same handles too. Do not call after fork()
 *            in a process that has already computed: the threads of the pool are not there any more.
 * Versions.  Structs that begin with `size` may grow: fill them with zeros and set `size` to their sizeof. Fields that an
 *            older caller does not know mean 0; fields that an older library does not know must be 0.
 *
 * Made by `cargo xtask gen`; not to be edited. MIT OR Apache-2.0.
 */

#ifndef SEGFUSE_H
#define SEGFUSE_H

#include <stddef.h>
#include <stdint.h>

/**
 * Gradients are written over their predictions.
 */
#define SEGFUSE_CUDA_IN_PLACE 1

/**
 * The stages are launched one by one: `segfuse_cuda_reduce`, `segfuse_cuda_finish`, `segfuse_cuda_gradient`.
 */
#define SEGFUSE_CUDA_SPLIT 2

/**
 * No workspace is allocated: every call brings one.
 */
#define SEGFUSE_CUDA_CALLERS_WORKSPACE 4

/**
 * There is a keep-mask, u8 `[N, V]`: voxels with 0 do not count.
 */
#define SEGFUSE_HAS_MASK 1

/**
 * There are voxel weights, f32 `[N, V]`, at least 0.
 */
#define SEGFUSE_HAS_WEIGHTS 2

/**
 * Voxels whose label is `ignore_label` do not count.
 */
#define SEGFUSE_HAS_IGNORE_LABEL 4

/**
 * Losses sum over the samples before any ratio; a loss of the spec string may say otherwise.
 */
#define SEGFUSE_BATCH 8

/**
 * Class 0 does not count; a loss may say otherwise. No effect with one class.
 */
#define SEGFUSE_EXCLUDE_BACKGROUND 16

/**
 * Also count true positives, false positives and false negatives of the hard prediction.
 */
#define SEGFUSE_HARD_COUNTS 32

/**
 * The version of this interface. It grows with every addition; a program built against an older header runs with a newer
 * library as long as the shared library's own name, which holds the major version, stays the same.
 */
#define SEGFUSE_ABI_VERSION 2

/**
 * What became of a call. Later versions may add codes: treat those you do not know as errors.
 */
enum segfuse_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Done.
     */
    SEGFUSE_OK = 0,
    /**
     * A pointer is null that must not be.
     */
    SEGFUSE_NULL_POINTER = 1,
    /**
     * A handle that was destroyed, never made, or is of another kind.
     */
    SEGFUSE_INVALID_HANDLE = 2,
    /**
     * A constant, a flag, a `size` field, an index or a text that the function does not know.
     */
    SEGFUSE_INVALID_ARGUMENT = 3,
    /**
     * A spec string that cannot be read: the text says what was expected, and which names are near.
     */
    SEGFUSE_INVALID_SPEC = 4,
    /**
     * A problem that contradicts itself, or on which the objective cannot be computed.
     */
    SEGFUSE_INVALID_PROBLEM = 5,
    /**
     * A buffer that is missing, not expected, of the wrong size, misaligned or overlapped by the gradient. Nothing was written.
     */
    SEGFUSE_INVALID_BUFFER = 6,
    /**
     * Moments, coefficients or a number of heads that belong to another plan.
     */
    SEGFUSE_OTHER_PLAN = 7,
    /**
     * The text does not fit where it should go; its length, where it is asked for, has been written.
     */
    SEGFUSE_TOO_SMALL = 8,
    /**
     * A device that is not there, or not in this build.
     */
    SEGFUSE_NO_DEVICE = 9,
    /**
     * The device has refused, is lost or has no memory left.
     */
    SEGFUSE_DEVICE_FAILED = 10,
    /**
     * The function cannot be had on this device.
     */
    SEGFUSE_UNSUPPORTED = 11,
    /**
     * A fault of the library. Its objects can still be used and destroyed; the values of this call cannot.
     */
    SEGFUSE_INTERNAL = 12,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum segfuse_status segfuse_status;
#else
typedef int32_t segfuse_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * A device that plans run on, with arrays of the host. Copy it freely; several threads may use it at once.
 */
typedef struct segfuse_device {
    /**
     * Never 0 for a device that was made.
     */
    uint64_t id;
} segfuse_device;

/**
 * An objective compiled for a problem: made once, used for every step of a training. Immutable; several threads may use it at
 * once.
 */
typedef struct segfuse_plan {
    /**
     * Never 0 for a plan that was made.
     */
    uint64_t id;
} segfuse_plan;

/**
 * The buffers of one head, in host memory. Types are those of the plan's problem; numbers of bytes must be exactly what it
 * needs (`segfuse_plan_buffers` says them). A buffer that the problem does not have is null. Addresses are aligned to their
 * type. Fill it with zeros, set `size` to sizeof(segfuse_buffers), then the rest.
 */
typedef struct segfuse_buffers {
    /**
     * sizeof(segfuse_buffers): which fields the caller knows.
     */
    size_t size;
    /**
     * N·C·V elements.
     */
    const void *prediction;
    /**
     * Bytes of the prediction.
     */
    size_t prediction_bytes;
    /**
     * N·V labels or N·C·V values.
     */
    const void *target;
    /**
     * Bytes of the target.
     */
    size_t target_bytes;
    /**
     * N·V bytes, 0 or 1.
     */
    const void *mask;
    /**
     * Bytes of the mask.
     */
    size_t mask_bytes;
    /**
     * N·V f32.
     */
    const void *weights;
    /**
     * Bytes of the weights.
     */
    size_t weights_bytes;
    /**
     * N·V or N·C·V f32.
     */
    const void *map;
    /**
     * Bytes of the map.
     */
    size_t map_bytes;
    /**
     * N·C·V elements, written. On the CPU, and on CUDA when prepared with SEGFUSE_CUDA_IN_PLACE, it may be the prediction's own
     * buffer, if it has its type; otherwise it overlaps nothing. Not used by calls that write no gradient.
     */
    void *gradient;
    /**
     * Bytes of the gradient.
     */
    size_t gradient_bytes;
} segfuse_buffers;

/**
 * The result of a call in full: losses of heads and terms, values of groups, counts. Destroy it with
 * `segfuse_evaluation_destroy`.
 */
typedef struct segfuse_evaluation {
    /**
     * Never 0 for an evaluation that was made.
     */
    uint64_t id;
} segfuse_evaluation;

/**
 * What else a call takes and gives. Every field may be 0, but for the size. A null segfuse_call stands for all zeros.
 */
typedef struct segfuse_call {
    /**
     * sizeof(segfuse_call): which fields the caller knows.
     */
    size_t size;
    /**
     * ∂(what is minimised)/∂loss, as many numbers as the plan has losses; null for 1.
     */
    const double *grad_output;
    /**
     * How many.
     */
    size_t grad_output_count;
    /**
     * Gets the loss: as many numbers as the plan has losses. Null where it is not wanted.
     */
    double *losses;
    /**
     * How many.
     */
    size_t loss_count;
    /**
     * Gets everything else, to be destroyed by the caller. Null where it is not wanted.
     */
    struct segfuse_evaluation *evaluation;
} segfuse_call;

/**
 * A CUDA device in a context, with the kernels loaded so far. Several threads may use it at once.
 */
typedef struct segfuse_cuda_device {
    /**
     * Never 0 for a device that was made.
     */
    uint64_t id;
} segfuse_cuda_device;

/**
 * A plan that was prepared on a CUDA device. Several threads may use it at once; calls that run on the device at the same time
 * need a workspace each.
 */
typedef struct segfuse_cuda_plan {
    /**
     * Never 0 for a plan that was prepared.
     */
    uint64_t id;
} segfuse_cuda_plan;

/**
 * The sizes of a prepared plan. The result of a call holds, as f32 from its beginning and as doubles from `result_doubles_at` on:
 * the losses; then for each head, for each term its values, as many as there are losses, then the voxels that counted and the
 * labels out of range.
 */
typedef struct segfuse_cuda_sizes {
    /**
     * Bytes of a workspace, aligned to 16.
     */
    uint64_t workspace_bytes;
    /**
     * Bytes of a result, aligned to 8.
     */
    uint64_t result_bytes;
    /**
     * How many numbers it has, in each precision.
     */
    uint64_t result_numbers;
    /**
     * The byte at which its doubles begin.
     */
    uint64_t result_doubles_at;
    /**
     * Bytes of device memory that the prepared plan holds.
     */
    uint64_t device_bytes;
} segfuse_cuda_sizes;

/**
 * What else a call takes and gives: device addresses. Every field may be 0, but for the size. A null segfuse_cuda_call stands for
 * all zeros.
 */
typedef struct segfuse_cuda_call {
    /**
     * sizeof(segfuse_cuda_call): which fields the caller knows.
     */
    size_t size;
    /**
     * ∂(what is minimised)/∂loss, f32 on the device, one number per loss; null for 1.
     */
    const void *grad_output;
    /**
     * Gets the result; null for a place in the workspace, which `segfuse_cuda_result` says.
     */
    void *result;
    /**
     * The workspace of the call; it may hold anything. Null for that of the prepared plan.
     */
    void *workspace;
    /**
     * Its bytes.
     */
    uint64_t workspace_bytes;
} segfuse_cuda_call;

/**
 * How many voxels a call counted.
 */
typedef struct segfuse_voxels {
    /**
     * Voxels that counted, of N·V.
     */
    uint64_t valid;
    /**
     * Labels out of range that were not masked out; their voxels did not count.
     */
    uint64_t invalid_labels;
} segfuse_voxels;

/**
 * True positives, false positives and false negatives of the hard prediction.
 */
typedef struct segfuse_hard_counts {
    /**
     * Predicted and true.
     */
    uint64_t true_positives;
    /**
     * Predicted, not true.
     */
    uint64_t false_positives;
    /**
     * True, not predicted.
     */
    uint64_t false_negatives;
} segfuse_hard_counts;

/**
 * The element type of a buffer; 0 stands for the default of the field.
 */
typedef uint32_t segfuse_dtype;

/**
 * What turns the prediction into probabilities.
 */
typedef uint32_t segfuse_activation;

/**
 * How prediction, gradient, a dense target and a map per class lie in memory.
 */
typedef uint32_t segfuse_layout;

/**
 * What the target is.
 */
typedef uint32_t segfuse_target;

/**
 * The map (distance or weight) that some losses read.
 */
typedef uint32_t segfuse_map;

/**
 * What becomes of the values of groups.
 */
typedef uint32_t segfuse_reduction;

/**
 * What a class without a target voxel does in a region loss.
 */
typedef uint32_t segfuse_absent;

/**
 * What a loss is computed on. Fill it with zeros, set `size` to sizeof(segfuse_problem), then what differs from the default:
 * every field means its default when it is 0, but for the first three.
 */
typedef struct segfuse_problem {
    /**
     * sizeof(segfuse_problem): which fields the caller knows.
     */
    size_t size;
    /**
     * N, from 1.
     */
    size_t samples;
    /**
     * C, from 1.
     */
    size_t classes;
    /**
     * One to five extents, slowest first; those that are not used are 0. V is their product.
     */
    size_t spatial[5];
    /**
     * f32 (default), f16 or bf16.
     */
    segfuse_dtype prediction;
    /**
     * Softmax for several classes and sigmoid for one (default), or as it says.
     */
    segfuse_activation activation;
    /**
     * Planar (default) or interleaved.
     */
    segfuse_layout layout;
    /**
     * Labels (default) or dense.
     */
    segfuse_target target;
    /**
     * u8 by default, for labels and for dense targets.
     */
    segfuse_dtype target_dtype;
    /**
     * f32, or the prediction's type (default).
     */
    segfuse_dtype gradient;
    /**
     * None (default), shared or per class.
     */
    segfuse_map map;
    /**
     * Mean (default), sum or one per sample.
     */
    segfuse_reduction reduction;
    /**
     * Count (default), skip or zero; a loss of the spec string may say otherwise.
     */
    segfuse_absent absent;
    /**
     * SEGFUSE_HAS_MASK and the like, added up.
     */
    uint32_t flags;
    /**
     * Read with SEGFUSE_HAS_IGNORE_LABEL; it may lie outside of 0 to C − 1.
     */
    int64_t ignore_label;
    /**
     * One weight per class, at least 0, read while the plan is made; null for none.
     */
    const double *class_weights;
    /**
     * How many: C, or 0.
     */
    size_t class_weight_count;
    /**
     * Between voxels that follow each other along each axis, above 0, for losses that make distance maps; read while the plan is
     * made, null for 1. From version 2 of the interface on.
     */
    const double *spacing;
    /**
     * How many: as many as extents, or 0.
     */
    size_t spacing_count;
} segfuse_problem;

/**
 * The sizes of a plan.
 */
typedef struct segfuse_sizes {
    /**
     * Heads of the plan.
     */
    size_t heads;
    /**
     * Numbers in the loss: 1, or one per sample with SEGFUSE_PER_SAMPLE.
     */
    size_t losses;
    /**
     * Bytes of moments and coefficients that a call on the CPU allocates beyond the caller's buffers.
     */
    uint64_t workspace_bytes;
    /**
     * Bytes that a call with gradient moves, if every pass went to memory.
     */
    uint64_t total_bytes;
} segfuse_sizes;

/**
 * Text or JSON.
 */
typedef uint32_t segfuse_format;

/**
 * The sums of one head, `[N, C, moments]`, and the counts of the pass that made them. Calls of several threads on the same
 * moments wait for each other.
 */
typedef struct segfuse_moments {
    /**
     * Never 0 for moments that were made.
     */
    uint64_t id;
} segfuse_moments;

/**
 * ∂loss/∂moment of one head: all that the gradient pass needs of the sums. Immutable.
 */
typedef struct segfuse_coefficients {
    /**
     * Never 0 for coefficients that were made.
     */
    uint64_t id;
} segfuse_coefficients;

/**
 * What the field says.
 */
#define SEGFUSE_DTYPE_DEFAULT 0

/**
 * IEEE single precision.
 */
#define SEGFUSE_F32 1

/**
 * IEEE half precision.
 */
#define SEGFUSE_F16 2

/**
 * The upper half of an f32.
 */
#define SEGFUSE_BF16 3

/**
 * uint8_t.
 */
#define SEGFUSE_U8 4

/**
 * int16_t.
 */
#define SEGFUSE_I16 5

/**
 * int32_t.
 */
#define SEGFUSE_I32 6

/**
 * int64_t.
 */
#define SEGFUSE_I64 7

/**
 * Softmax for several classes, sigmoid for one.
 */
#define SEGFUSE_ACTIVATION_DEFAULT 0

/**
 * The prediction is a probability already.
 */
#define SEGFUSE_NO_ACTIVATION 1

/**
 * Each channel on its own.
 */
#define SEGFUSE_SIGMOID 2

/**
 * Over the classes of a voxel.
 */
#define SEGFUSE_SOFTMAX 3

/**
 * `[N, C, V]`, each class a plane.
 */
#define SEGFUSE_PLANAR 0

/**
 * `[N, V, C]`, the classes of a voxel side by side.
 */
#define SEGFUSE_INTERLEAVED 1

/**
 * Class labels `[N, V]`: u8, i16, i32 or i64. With C = 1 they are 0 and 1.
 */
#define SEGFUSE_LABELS 0

/**
 * One value per voxel and class, hard or soft, in the prediction's layout: u8, f32, f16 or bf16.
 */
#define SEGFUSE_DENSE 1

/**
 * None.
 */
#define SEGFUSE_NO_MAP 0

/**
 * f32 `[N, V]`, shared by the classes.
 */
#define SEGFUSE_SHARED_MAP 1

/**
 * f32, one per voxel and class, in the prediction's layout.
 */
#define SEGFUSE_CLASS_MAP 2

/**
 * The weighted mean: one number.
 */
#define SEGFUSE_MEAN 0

/**
 * The weighted sum: one number.
 */
#define SEGFUSE_SUM 1

/**
 * One number per sample.
 */
#define SEGFUSE_PER_SAMPLE 2

/**
 * It counts like any other.
 */
#define SEGFUSE_ABSENT_COUNTS 0

/**
 * It leaves the mean.
 */
#define SEGFUSE_ABSENT_SKIPPED 1

/**
 * Its value is 0.
 */
#define SEGFUSE_ABSENT_ZERO 2

/**
 * Lines for people.
 */
#define SEGFUSE_TEXT 0

/**
 * One JSON value. A number that is not finite is null.
 */
#define SEGFUSE_JSON 1

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Computes the loss: one pass over each prediction. The gradients are not used.
 *
 * Results repeat bit for bit, whatever the number of threads.
 *
 * The caller promises:
 * `buffers` points to `heads` segfuse_buffers of the same `size`, whose addresses hold what they say; `call` is null or points
 * to a segfuse_call. Nothing writes to any of them meanwhile.
 */
segfuse_status segfuse_forward(struct segfuse_device device,
                               struct segfuse_plan plan,
                               const struct segfuse_buffers *buffers,
                               size_t heads,
                               const struct segfuse_call *call);

/**
 * Computes the loss and the gradient of every head, ∂(what is minimised)/∂prediction.
 *
 * Nothing is written when the status is not SEGFUSE_OK, but for a device that fails on the way. Results repeat bit for bit,
 * whatever the number of threads.
 *
 * The caller promises:
 * As `segfuse_forward`; nothing else reads or writes the gradients meanwhile.
 */
segfuse_status segfuse_forward_backward(struct segfuse_device device,
                                        struct segfuse_plan plan,
                                        const struct segfuse_buffers *buffers,
                                        size_t heads,
                                        const struct segfuse_call *call);

/**
 * Makes a device of its number, as the driver counts, in its primary context: that of the CUDA runtime.
 *
 * The caller promises:
 * `device` points to a segfuse_cuda_device.
 */
segfuse_status segfuse_cuda_device_create(size_t ordinal, struct segfuse_cuda_device *device);

/**
 * Makes the device of a context of the caller (a CUcontext), in that context.
 *
 * The caller promises:
 * `context` is a context that outlives the device and all that is prepared on it; `device` points to a segfuse_cuda_device.
 */
segfuse_status segfuse_cuda_device_create_in(void *context,
                                             struct segfuse_cuda_device *device);

/**
 * Destroys a device; what was prepared on it stays. Nothing happens for a device that is all zeros.
 */
segfuse_status segfuse_cuda_device_destroy(struct segfuse_cuda_device device);

/**
 * Prepares a plan: the driver compiles its kernels, where it has not yet, and a workspace is allocated. `flags` is
 * SEGFUSE_CUDA_IN_PLACE and the like, added up. Not while a stream of the thread is captured.
 *
 * The caller promises:
 * `prepared` points to a segfuse_cuda_plan.
 */
segfuse_status segfuse_cuda_prepare(struct segfuse_cuda_device device,
                                    struct segfuse_plan plan,
                                    uint32_t flags,
                                    struct segfuse_cuda_plan *prepared);

/**
 * Destroys a prepared plan, after the kernels that use its memory. Nothing happens for one that is all zeros.
 */
segfuse_status segfuse_cuda_destroy(struct segfuse_cuda_plan prepared);

/**
 * Writes the sizes of a prepared plan.
 *
 * The caller promises:
 * `sizes` points to a segfuse_cuda_sizes.
 */
segfuse_status segfuse_cuda_plan_sizes(struct segfuse_cuda_plan prepared, struct segfuse_cuda_sizes *sizes);

/**
 * Launches the loss alone on `stream` and returns. See `segfuse_cuda_forward_backward`.
 *
 * The caller promises:
 * As `segfuse_cuda_forward_backward`; the gradients are not used.
 */
segfuse_status segfuse_cuda_forward(struct segfuse_cuda_plan prepared,
                                    const struct segfuse_buffers *buffers,
                                    size_t heads,
                                    const struct segfuse_cuda_call *call,
                                    void *stream);

/**
 * Launches loss and gradient on `stream` (a CUstream or cudaStream_t; null is the default stream) and returns before they are
 * done. Nothing is allocated, copied or waited for: a call can be captured into a CUDA graph. The buffers hold device addresses;
 * what is wrong with them is found before anything is launched. Prepared with SEGFUSE_CUDA_IN_PLACE, a gradient is null or the
 * prediction. Results repeat bit for bit on one device.
 *
 * The caller promises:
 * Until the stream has come to the end of the call, `buffers` and `call` name device memory that is there, holds what they say and
 * is used by nothing else where it is written; `stream` is a stream of the device's context. The structs themselves are read
 * during the call alone.
 */
segfuse_status segfuse_cuda_forward_backward(struct segfuse_cuda_plan prepared,
                                             const struct segfuse_buffers *buffers,
                                             size_t heads,
                                             const struct segfuse_cuda_call *call,
                                             void *stream);

/**
 * Launches the first stage: the sums of every head, to `segfuse_cuda_moments`. Prepared with SEGFUSE_CUDA_SPLIT.
 *
 * The caller promises:
 * As `segfuse_cuda_forward`.
 */
segfuse_status segfuse_cuda_reduce(struct segfuse_cuda_plan prepared,
                                   const struct segfuse_buffers *buffers,
                                   size_t heads,
                                   const struct segfuse_cuda_call *call,
                                   void *stream);

/**
 * Launches the second stage: the sums, reduced over devices meanwhile, to result and coefficients.
 *
 * The caller promises:
 * As `segfuse_cuda_forward_backward`.
 */
segfuse_status segfuse_cuda_finish(struct segfuse_cuda_plan prepared,
                                   const struct segfuse_cuda_call *call,
                                   void *stream);

/**
 * Launches the last stage: the gradients from the coefficients.
 *
 * The caller promises:
 * As `segfuse_cuda_forward_backward`.
 */
segfuse_status segfuse_cuda_gradient(struct segfuse_cuda_plan prepared,
                                     const struct segfuse_buffers *buffers,
                                     size_t heads,
                                     const struct segfuse_cuda_call *call,
                                     void *stream);

/**
 * Writes where the sums of a head lie between the stages, and how many doubles they are: all of them may be added up over
 * devices. `call` says the workspace, as in the calls.
 *
 * The caller promises:
 * `call` is null or points to a segfuse_cuda_call; `moments` points to a pointer and `count` to a uint64_t.
 */
segfuse_status segfuse_cuda_moments(struct segfuse_cuda_plan prepared,
                                    size_t head,
                                    const struct segfuse_cuda_call *call,
                                    void **moments,
                                    uint64_t *count);

/**
 * Writes where the result of calls that name no other place lies. `call` says the workspace, as in the calls.
 *
 * The caller promises:
 * `call` is null or points to a segfuse_cuda_call; `result` points to a pointer.
 */
segfuse_status segfuse_cuda_result(struct segfuse_cuda_plan prepared,
                                   const struct segfuse_cuda_call *call,
                                   void **result);

/**
 * Makes a device of its name: "cpu", "auto" (a GPU if this build can use one and the machine has one, else the CPU), or a
 * name of `segfuse_list_devices`. A null name stands for "auto".
 *
 * The caller promises:
 * `name` is null or a NUL-terminated string; `device` points to a segfuse_device.
 */
segfuse_status segfuse_device_create(const char *name,
                                     struct segfuse_device *device);

/**
 * Makes the CPU with a pool of its own of `threads` threads; 0 stands for the pool that all such devices share, which has a
 * thread per core (or RAYON_NUM_THREADS). Results do not depend on the number.
 *
 * The caller promises:
 * `device` points to a segfuse_device.
 */
segfuse_status segfuse_device_create_cpu(size_t threads,
                                         struct segfuse_device *device);

/**
 * Destroys a device; calls that run on it end well. Nothing happens for a device that is all zeros.
 */
segfuse_status segfuse_device_destroy(struct segfuse_device device);

/**
 * Writes what the device is, such as its threads and instruction set. See `segfuse_list_losses` for how texts are written.
 *
 * The caller promises:
 * `buffer` points to `capacity` bytes; `length` is null or points to a size_t.
 */
segfuse_status segfuse_device_description(struct segfuse_device device,
                                          char *buffer,
                                          size_t capacity,
                                          size_t *length);

/**
 * Destroys an evaluation. Nothing happens for one that is all zeros.
 */
segfuse_status segfuse_evaluation_destroy(struct segfuse_evaluation evaluation);

/**
 * Writes how many voxels of a head counted, and how many labels were out of range.
 *
 * The caller promises:
 * `voxels` points to a segfuse_voxels.
 */
segfuse_status segfuse_evaluation_voxels(struct segfuse_evaluation evaluation,
                                         size_t head,
                                         struct segfuse_voxels *voxels);

/**
 * Writes the value of a term of the objective, without its factor: as many numbers as the plan has losses.
 *
 * The caller promises:
 * `values` points to `count` doubles.
 */
segfuse_status segfuse_evaluation_term(struct segfuse_evaluation evaluation,
                                       size_t head,
                                       size_t term,
                                       double *values,
                                       size_t count);

/**
 * Writes the counts of the hard prediction, `[N, C]`, of a problem with SEGFUSE_HARD_COUNTS.
 *
 * The caller promises:
 * `counts` points to `count` segfuse_hard_counts.
 */
segfuse_status segfuse_evaluation_hard_counts(struct segfuse_evaluation evaluation,
                                              size_t head,
                                              struct segfuse_hard_counts *counts,
                                              size_t count);

/**
 * Writes all of it as JSON: losses and heads, a head with losses, terms (name, weight, values, groups `[pools, classes]` with
 * null where a class is left out), valid_voxels, invalid_labels, hard_counts. See `segfuse_list_losses` for how texts are
 * written.
 *
 * The caller promises:
 * `buffer` points to `capacity` bytes; `length` is null or points to a size_t.
 */
segfuse_status segfuse_evaluation_json(struct segfuse_evaluation evaluation,
                                       char *buffer,
                                       size_t capacity,
                                       size_t *length);

/**
 * Compiles a spec string such as "dice + 0.5*focal(gamma=2)" for a problem.
 *
 * The caller promises:
 * `spec` is a NUL-terminated string; `problem` points to a segfuse_problem with its `size` set; `plan` points to a
 * segfuse_plan.
 */
segfuse_status segfuse_plan_create(const char *spec, const struct segfuse_problem *problem, struct segfuse_plan *plan);

/**
 * Compiles a spec string for several heads of different size, as in deep supervision: the loss is Σ weight·(loss of the head).
 *
 * The caller promises:
 * As `segfuse_plan_create`; `problems` and `weights` point to `heads` values each, the problems all of the same `size`.
 */
segfuse_status segfuse_plan_create_heads(const char *spec,
                                         const struct segfuse_problem *problems,
                                         const double *weights,
                                         size_t heads,
                                         struct segfuse_plan *plan);

/**
 * Destroys a plan; calls that run with it end well. Nothing happens for a plan that is all zeros.
 */
segfuse_status segfuse_plan_destroy(struct segfuse_plan plan);

/**
 * Writes the sizes of a plan.
 *
 * The caller promises:
 * `sizes` points to a segfuse_sizes.
 */
segfuse_status segfuse_plan_sizes(struct segfuse_plan plan, struct segfuse_sizes *sizes);

/**
 * Writes the buffers that a head needs: every pointer null, and every number of bytes as the plan expects it, 0 where there
 * is no such buffer. Allocate, fill in the pointers, and call.
 *
 * The caller promises:
 * `buffers` points to a segfuse_buffers with its `size` set.
 */
segfuse_status segfuse_plan_buffers(struct segfuse_plan plan,
                                    size_t head,
                                    struct segfuse_buffers *buffers);

/**
 * Writes what a plan does: moments, stages, bytes, workspace. See `segfuse_list_losses` for how texts are written.
 *
 * The caller promises:
 * `buffer` points to `capacity` bytes; `length` is null or points to a size_t.
 */
segfuse_status segfuse_plan_explain(struct segfuse_plan plan,
                                    segfuse_format format,
                                    char *buffer,
                                    size_t capacity,
                                    size_t *length);

/**
 * Makes moments of a head, all 0.
 *
 * The caller promises:
 * `moments` points to a segfuse_moments.
 */
segfuse_status segfuse_moments_create(struct segfuse_plan plan, size_t head, struct segfuse_moments *moments);

/**
 * Destroys moments. Nothing happens for moments that are all zeros.
 */
segfuse_status segfuse_moments_destroy(struct segfuse_moments moments);

/**
 * Writes how many numbers the moments have: N·C·(moments per class).
 *
 * The caller promises:
 * `count` points to a size_t.
 */
segfuse_status segfuse_moments_count(struct segfuse_moments moments, size_t *count);

/**
 * Copies the moments out, for example to reduce them over processes; `segfuse_moments_set` puts them back. All add up.
 *
 * The caller promises:
 * `values` points to `count` doubles.
 */
segfuse_status segfuse_moments_get(struct segfuse_moments moments, double *values, size_t count);

/**
 * Replaces the moments by numbers that `segfuse_moments_get` gave, or sums of such.
 *
 * The caller promises:
 * `values` points to `count` doubles.
 */
segfuse_status segfuse_moments_set(struct segfuse_moments moments, const double *values, size_t count);

/**
 * Copies the counts out: voxels, and the hard counts `[N, C]` of a problem with SEGFUSE_HARD_COUNTS (else `hard` is null and
 * `hard_count` 0). They are reported, and the loss does not depend on them.
 *
 * The caller promises:
 * `voxels` points to a segfuse_voxels; `hard` is null or points to `hard_count` segfuse_hard_counts.
 */
segfuse_status segfuse_moments_get_counts(struct segfuse_moments moments,
                                          struct segfuse_voxels *voxels,
                                          struct segfuse_hard_counts *hard,
                                          size_t hard_count);

/**
 * Replaces the counts; see `segfuse_moments_get_counts`.
 *
 * The caller promises:
 * `hard` is null or points to `hard_count` segfuse_hard_counts.
 */
segfuse_status segfuse_moments_set_counts(struct segfuse_moments moments,
                                          struct segfuse_voxels voxels,
                                          const struct segfuse_hard_counts *hard,
                                          size_t hard_count);

/**
 * Adds the moments and counts of another tile of the same samples and classes to `into`.
 */
segfuse_status segfuse_moments_merge(struct segfuse_moments into, struct segfuse_moments from);

/**
 * The first stage: replaces `moments` by the sums of one head. They are moments of that head, or of one that has the same losses, samples
 * and classes; others are SEGFUSE_OTHER_PLAN. The gradient is not used.
 *
 * The caller promises:
 * `buffers` points to a segfuse_buffers whose addresses hold what they say. Nothing writes to them meanwhile.
 */
segfuse_status segfuse_reduce(struct segfuse_device device,
                              struct segfuse_plan plan,
                              size_t head,
                              const struct segfuse_buffers *buffers,
                              struct segfuse_moments moments);

/**
 * The second stage: the loss from the sums of every head, and the coefficients of every head's gradient.
 *
 * The caller promises:
 * `moments` and `coefficients` point to `heads` values each, the latter written and to be destroyed by the caller; `call` is
 * null or points to a segfuse_call, whose grad_output is not used.
 */
segfuse_status segfuse_finish(struct segfuse_device device,
                              struct segfuse_plan plan,
                              const struct segfuse_moments *moments,
                              size_t heads,
                              const struct segfuse_call *call,
                              struct segfuse_coefficients *coefficients);

/**
 * Destroys coefficients. Nothing happens for coefficients that are all zeros.
 */
segfuse_status segfuse_coefficients_destroy(struct segfuse_coefficients coefficients);

/**
 * The last stage: the gradient of one head from its coefficients, with the `grad_output` of the call. Losses and evaluation
 * of the call are not used.
 *
 * The caller promises:
 * `buffers` points to a segfuse_buffers whose addresses hold what they say, and `call` is null or points to a segfuse_call.
 * Nothing else uses the gradient meanwhile, and nothing writes to the rest.
 */
segfuse_status segfuse_gradient(struct segfuse_device device,
                                struct segfuse_plan plan,
                                size_t head,
                                const struct segfuse_buffers *buffers,
                                struct segfuse_coefficients coefficients,
                                const struct segfuse_call *call);

/**
 * The text of the last call of this thread that failed; empty when none has. It is valid until the next call of this thread
 * that fails, or the thread's end.
 */
const char *segfuse_last_error(void);

/**
 * The name of a status, such as "SEGFUSE_INVALID_SPEC"; "unknown status" for a number that is none. Never freed.
 */
const char *segfuse_status_name(int32_t status);

/**
 * `SEGFUSE_ABI_VERSION` of the library that runs; at least that of the header, or functions may be missing.
 */
uint32_t segfuse_abi_version(void);

/**
 * The version of the library, such as "0.1.0". Never freed.
 */
const char *segfuse_version(void);

/**
 * Writes the losses that a spec string can name: as text one name per line, as JSON an array of objects with name, aliases,
 * source, doc and parameters (key, default, range, doc).
 *
 * As with every function that writes a text: `buffer` gets at most `capacity` bytes and always ends in a NUL; `length`, if
 * not null, gets the bytes needed without the NUL. A null `buffer` with capacity 0 asks for the length alone. A text that
 * does not fit is cut, and the status is SEGFUSE_TOO_SMALL.
 *
 * The caller promises:
 * `buffer` points to `capacity` bytes; `length` is null or points to a size_t.
 */
segfuse_status segfuse_list_losses(segfuse_format format,
                                   char *buffer,
                                   size_t capacity,
                                   size_t *length);

/**
 * Writes the devices of this machine that `segfuse_device_create` takes: as text one per line, name and description with a
 * tab between, as JSON an array of objects with name and description. See `segfuse_list_losses` for how texts are written.
 *
 * The caller promises:
 * `buffer` points to `capacity` bytes; `length` is null or points to a size_t.
 */
segfuse_status segfuse_list_devices(segfuse_format format,
                                    char *buffer,
                                    size_t capacity,
                                    size_t *length);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SEGFUSE_H */
