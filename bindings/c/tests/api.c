/* Every function of segfuse.h from C11: right results, and a status for every misuse that can be seen. */
#include "check.h"

#include <stddef.h>

static segfuse_device cpu;

static segfuse_problem described(void) {
    segfuse_problem problem = {0};
    problem.size = sizeof problem;
    problem.samples = SAMPLES;
    problem.classes = CLASSES;
    problem.spatial[0] = HEIGHT;
    problem.spatial[1] = WIDTH;
    return problem;
}

static segfuse_plan planned(const char *spec, const segfuse_problem *problem) {
    segfuse_plan plan = {0};
    OK(segfuse_plan_create(spec, problem, &plan));
    return plan;
}

static segfuse_buffers buffered(const float *logits, const uint8_t *labels, float *gradient) {
    segfuse_buffers buffers = {0};
    buffers.size = sizeof buffers;
    buffers.prediction = logits;
    buffers.prediction_bytes = ELEMENTS * sizeof *logits;
    buffers.target = labels;
    buffers.target_bytes = SAMPLES * VOXELS;
    buffers.gradient = gradient;
    buffers.gradient_bytes = ELEMENTS * sizeof *gradient;
    return buffers;
}

static segfuse_call called(double *losses, size_t count) {
    segfuse_call call = {0};
    call.size = sizeof call;
    call.losses = losses;
    call.loss_count = count;
    return call;
}

/* Soft Dice over (sample, class), smoothed by 1e-5, plus cross-entropy, from their definitions. */
static double dice_plus_ce(const double *logits, const uint8_t *labels) {
    double dice = 0.0, ce = 0.0;
    for (size_t n = 0; n < SAMPLES; ++n) {
        double sums[CLASSES][3] = {{0.0}};
        for (size_t v = 0; v < VOXELS; ++v) {
            double total = 0.0, p[CLASSES];
            for (size_t c = 0; c < CLASSES; ++c) {
                total += p[c] = exp(logits[(n * CLASSES + c) * VOXELS + v]);
            }
            for (size_t c = 0; c < CLASSES; ++c) {
                double g = labels[n * VOXELS + v] == c;
                p[c] /= total;
                sums[c][0] += p[c] * g;
                sums[c][1] += p[c];
                sums[c][2] += g;
                ce -= g * log(p[c]);
            }
        }
        for (size_t c = 0; c < CLASSES; ++c) {
            dice += 1.0 - (2.0 * sums[c][0] + 1e-5) / (sums[c][1] + sums[c][2] + 1e-5);
        }
    }
    return dice / (SAMPLES * CLASSES) + ce / (SAMPLES * VOXELS);
}

static void values(void) {
    float logits[ELEMENTS], gradient[ELEMENTS], in_place[ELEMENTS];
    double exact[ELEMENTS];
    uint8_t labels[SAMPLES * VOXELS];
    fill(logits, labels);
    segfuse_problem problem = described();
    segfuse_plan plan = planned("dice + ce", &problem);
    segfuse_buffers buffers = buffered(logits, labels, gradient);
    double loss = NAN, forward = NAN, factor = 2.0;
    segfuse_call call = called(&loss, 1);
    OK(segfuse_forward_backward(cpu, plan, &buffers, 1, &call));

    for (size_t i = 0; i < ELEMENTS; ++i) {
        exact[i] = logits[i];
    }
    CHECK(fabs(loss - dice_plus_ce(exact, labels)) < 1e-6);
    for (size_t i = 0; i < ELEMENTS; ++i) {
        const double step = 1e-5;
        exact[i] = logits[i] + step;
        double up = dice_plus_ce(exact, labels);
        exact[i] = logits[i] - step;
        double slope = (up - dice_plus_ce(exact, labels)) / (2.0 * step);
        exact[i] = logits[i];
        CHECK(fabs(gradient[i] - slope) < 1e-8);
    }

    call.losses = &forward;
    buffers.gradient = NULL;
    OK(segfuse_forward(cpu, plan, &buffers, 1, &call));
    CHECK(forward == loss);
    OK(segfuse_forward(cpu, plan, &buffers, 1, NULL));
    CHECK_STATUS(segfuse_forward(cpu, plan, &buffers, SIZE_MAX / 16, &call), SEGFUSE_INVALID_ARGUMENT);
    CHECK(strstr(segfuse_last_error(), "more than memory has") != NULL);

    /* In place of the prediction, with a factor, on one thread. */
    segfuse_device one = {0};
    CHECK_STATUS(segfuse_device_create_cpu((size_t)-1, &one), SEGFUSE_INVALID_PROBLEM);
    CHECK(strstr(segfuse_last_error(), "4096") != NULL && one.id == 0);
    OK(segfuse_device_create_cpu(1, &one));
    memcpy(in_place, logits, sizeof logits);
    buffers = buffered(in_place, labels, in_place);
    call.grad_output = &factor;
    call.grad_output_count = 1;
    OK(segfuse_forward_backward(one, plan, &buffers, 1, &call));
    CHECK(forward == loss);
    for (size_t i = 0; i < ELEMENTS; ++i) {
        CHECK(fabsf(in_place[i] - 2.0F * gradient[i]) <= 1e-6F * fabsf(gradient[i]));
    }
    OK(segfuse_device_destroy(one));
    OK(segfuse_plan_destroy(plan));
}

static void per_sample(void) {
    float logits[ELEMENTS], gradient[ELEMENTS], scaled[ELEMENTS];
    uint8_t labels[SAMPLES * VOXELS];
    int64_t wide[SAMPLES * VOXELS];
    fill(logits, labels);
    for (size_t i = 0; i < SAMPLES * VOXELS; ++i) {
        wide[i] = labels[i];
    }
    segfuse_problem problem = described();
    problem.reduction = SEGFUSE_PER_SAMPLE;
    problem.target_dtype = SEGFUSE_I64;
    segfuse_plan plan = planned("tversky", &problem);
    segfuse_sizes sizes;
    OK(segfuse_plan_sizes(plan, &sizes));
    CHECK(sizes.heads == 1 && sizes.losses == SAMPLES);
    CHECK(sizes.workspace_bytes > 0 && sizes.total_bytes > 2 * sizeof logits);

    segfuse_buffers buffers = {0};
    buffers.size = sizeof buffers;
    OK(segfuse_plan_buffers(plan, 0, &buffers));
    CHECK(buffers.size == sizeof buffers && buffers.prediction == NULL && buffers.gradient == NULL);
    CHECK(buffers.prediction_bytes == sizeof logits && buffers.gradient_bytes == sizeof gradient);
    CHECK(buffers.target_bytes == sizeof wide && buffers.mask_bytes == 0 && buffers.map_bytes == 0);
    buffers.prediction = logits;
    buffers.target = wide;
    buffers.gradient = gradient;
    double losses[SAMPLES] = {NAN, NAN};
    double factors[SAMPLES] = {1.0, 0.0};
    segfuse_call call = called(losses, SAMPLES);
    OK(segfuse_forward_backward(cpu, plan, &buffers, 1, &call));
    CHECK(losses[0] > 0.0 && losses[1] > 0.0 && losses[0] != losses[1]);
    buffers.gradient = scaled;
    call.grad_output = factors;
    call.grad_output_count = SAMPLES;
    OK(segfuse_forward_backward(cpu, plan, &buffers, 1, &call));
    CHECK(memcmp(scaled, gradient, sizeof gradient / SAMPLES) == 0);
    for (size_t i = ELEMENTS / SAMPLES; i < ELEMENTS; ++i) {
        CHECK(scaled[i] == 0.0F && gradient[i] != 0.0F);
    }
    call.loss_count = 1;
    CHECK_STATUS(segfuse_forward_backward(cpu, plan, &buffers, 1, &call), SEGFUSE_INVALID_BUFFER);
    call.loss_count = SAMPLES;
    call.grad_output_count = 1;
    CHECK_STATUS(segfuse_forward_backward(cpu, plan, &buffers, 1, &call), SEGFUSE_INVALID_BUFFER);
    OK(segfuse_plan_destroy(plan));
}

/* Mask, weights, an ignore label, class weights, a map and hard counts reach the problem. */
static void settings(void) {
    float logits[ELEMENTS], gradient[ELEMENTS], weights[SAMPLES * VOXELS], map[SAMPLES * VOXELS];
    uint8_t labels[SAMPLES * VOXELS], mask[SAMPLES * VOXELS];
    double class_weights[CLASSES] = {1.0, 2.0, 0.5};
    fill(logits, labels);
    for (size_t i = 0; i < SAMPLES * VOXELS; ++i) {
        weights[i] = (float)(i % 3);
        map[i] = (float)(i % 5) - 2.0F;
        mask[i] = i % 4 != 0;
    }
    labels[1] = 255;
    labels[2] = 9;
    segfuse_problem problem = described();
    problem.flags = SEGFUSE_HAS_MASK | SEGFUSE_HAS_WEIGHTS | SEGFUSE_HAS_IGNORE_LABEL | SEGFUSE_BATCH
        | SEGFUSE_EXCLUDE_BACKGROUND | SEGFUSE_HARD_COUNTS;
    problem.ignore_label = 255;
    problem.map = SEGFUSE_SHARED_MAP;
    problem.class_weights = class_weights;
    problem.class_weight_count = CLASSES;
    segfuse_plan plan = planned("dice + 0.25*boundary", &problem);
    segfuse_buffers buffers = buffered(logits, labels, gradient);
    buffers.mask = mask;
    buffers.mask_bytes = sizeof mask;
    buffers.weights = weights;
    buffers.weights_bytes = sizeof weights;
    buffers.map = map;
    buffers.map_bytes = sizeof map;
    double loss = NAN;
    segfuse_evaluation evaluation = {0};
    segfuse_call call = called(&loss, 1);
    call.evaluation = &evaluation;
    OK(segfuse_forward_backward(cpu, plan, &buffers, 1, &call));
    for (size_t n = 0; n < SAMPLES; ++n) {
        for (size_t v = 0; v < VOXELS; ++v) {
            size_t i = n * VOXELS + v;
            int counts = mask[i] && weights[i] != 0.0F && labels[i] < CLASSES;
            for (size_t c = 0; c < CLASSES && !counts; ++c) {
                CHECK(gradient[(n * CLASSES + c) * VOXELS + v] == 0.0F);
            }
        }
    }

    segfuse_voxels voxels;
    OK(segfuse_evaluation_voxels(evaluation, 0, &voxels));
    size_t valid = 0;
    for (size_t i = 0; i < SAMPLES * VOXELS; ++i) {
        valid += mask[i] && labels[i] < CLASSES;
    }
    CHECK(voxels.valid == valid && voxels.invalid_labels == 1);
    segfuse_hard_counts counts[SAMPLES * CLASSES];
    OK(segfuse_evaluation_hard_counts(evaluation, 0, counts, SAMPLES * CLASSES));
    size_t positives = 0;
    for (size_t i = 0; i < SAMPLES * CLASSES; ++i) {
        positives += counts[i].true_positives + counts[i].false_negatives;
    }
    CHECK(positives == valid);
    double dice = NAN, boundary = NAN;
    OK(segfuse_evaluation_term(evaluation, 0, 0, &dice, 1));
    OK(segfuse_evaluation_term(evaluation, 0, 1, &boundary, 1));
    CHECK(fabs(loss - (dice + 0.25 * boundary)) < 1e-12);
    char json[4096];
    size_t length = 0;
    OK(segfuse_evaluation_json(evaluation, json, sizeof json, &length));
    CHECK(length == strlen(json) && strstr(json, "\"invalid_labels\":1") != NULL);

    CHECK_STATUS(segfuse_evaluation_term(evaluation, 0, 2, &dice, 1), SEGFUSE_INVALID_ARGUMENT);
    CHECK_STATUS(segfuse_evaluation_term(evaluation, 1, 0, &dice, 1), SEGFUSE_INVALID_ARGUMENT);
    CHECK_STATUS(segfuse_evaluation_hard_counts(evaluation, 0, counts, 1), SEGFUSE_INVALID_BUFFER);
    CHECK_STATUS(segfuse_evaluation_voxels(evaluation, 0, NULL), SEGFUSE_NULL_POINTER);
    OK(segfuse_evaluation_destroy(evaluation));
    CHECK_STATUS(segfuse_evaluation_voxels(evaluation, 0, &voxels), SEGFUSE_INVALID_HANDLE);
    OK(segfuse_plan_destroy(plan));
}

static void deep_supervision(void) {
    float logits[ELEMENTS], small[CLASSES * SAMPLES], gradient[ELEMENTS], small_gradient[CLASSES * SAMPLES];
    uint8_t labels[SAMPLES * VOXELS], small_labels[SAMPLES] = {0, 2};
    fill(logits, labels);
    memcpy(small, logits, sizeof small);
    segfuse_problem problems[2] = {described(), described()};
    problems[1].spatial[0] = problems[1].spatial[1] = 1;
    double weights[2] = {1.0, 0.5}, whole = NAN, first = NAN, second = NAN;
    segfuse_plan plan = {0};
    OK(segfuse_plan_create_heads("ce", problems, weights, 2, &plan));
    segfuse_buffers buffers[2];
    memset(buffers, 0, sizeof buffers);
    buffers[0] = buffered(logits, labels, gradient);
    buffers[1].size = sizeof buffers[1];
    OK(segfuse_plan_buffers(plan, 1, &buffers[1]));
    CHECK(buffers[1].prediction_bytes == sizeof small);
    buffers[1].prediction = small;
    buffers[1].target = small_labels;
    buffers[1].gradient = small_gradient;
    segfuse_call call = called(&whole, 1);
    OK(segfuse_forward_backward(cpu, plan, buffers, 2, &call));
    CHECK_STATUS(segfuse_forward_backward(cpu, plan, buffers, 1, &call), SEGFUSE_OTHER_PLAN);
    for (size_t head = 0; head < 2; ++head) {
        segfuse_plan alone = planned("ce", &problems[head]);
        call = called(head == 0 ? &first : &second, 1);
        OK(segfuse_forward(cpu, alone, &buffers[head], 1, &call));
        OK(segfuse_plan_destroy(alone));
    }
    CHECK(fabs(whole - (first + 0.5 * second)) < 1e-12);
    OK(segfuse_plan_destroy(plan));
}

/* The rows of an image as two tiles: the sums of each, added, finished; then the gradient. */
static void stages(void) {
    enum { TOP = 2, TILE_MAX = 3 * WIDTH };
    float logits[ELEMENTS], gradient[ELEMENTS], again[ELEMENTS], tile[CLASSES * SAMPLES * TILE_MAX];
    uint8_t labels[SAMPLES * VOXELS], tile_labels[SAMPLES * TILE_MAX];
    fill(logits, labels);
    segfuse_problem problem = described();
    segfuse_plan plan = planned("dice + ce", &problem);
    segfuse_buffers buffers = buffered(logits, labels, gradient);
    double whole = NAN, finished = NAN;
    segfuse_call call = called(&whole, 1);
    OK(segfuse_forward_backward(cpu, plan, &buffers, 1, &call));

    segfuse_plan tiles[2];
    segfuse_moments sums[2], total;
    for (size_t t = 0; t < 2; ++t) {
        size_t first = t == 0 ? 0 : TOP, rows = t == 0 ? TOP : HEIGHT - TOP, voxels = rows * WIDTH;
        problem.spatial[0] = rows;
        tiles[t] = planned("dice + ce", &problem);
        for (size_t n = 0; n < SAMPLES; ++n) {
            memcpy(tile_labels + n * voxels, labels + n * VOXELS + first * WIDTH, voxels);
            for (size_t c = 0; c < CLASSES; ++c) {
                size_t plane = n * CLASSES + c;
                memcpy(tile + plane * voxels, logits + plane * VOXELS + first * WIDTH, voxels * sizeof *tile);
            }
        }
        segfuse_buffers part = buffered(tile, tile_labels, NULL);
        part.prediction_bytes = SAMPLES * CLASSES * voxels * sizeof *tile;
        part.target_bytes = SAMPLES * voxels;
        OK(segfuse_moments_create(tiles[t], 0, &sums[t]));
        OK(segfuse_reduce(cpu, tiles[t], 0, &part, sums[t]));
    }
    OK(segfuse_moments_create(plan, 0, &total));
    OK(segfuse_moments_merge(total, sums[0]));
    OK(segfuse_moments_merge(total, sums[1]));
    segfuse_voxels voxels;
    OK(segfuse_moments_get_counts(total, &voxels, NULL, 0));
    CHECK(voxels.valid == SAMPLES * VOXELS && voxels.invalid_labels == 0);

    /* Out and in again, as for an all-reduce. */
    size_t count = 0;
    OK(segfuse_moments_count(total, &count));
    double *copy = malloc(count * sizeof *copy);
    CHECK(copy != NULL && count % (SAMPLES * CLASSES) == 0);
    OK(segfuse_moments_get(total, copy, count));
    OK(segfuse_moments_set(total, copy, count));
    OK(segfuse_moments_set_counts(total, voxels, NULL, 0));
    CHECK_STATUS(segfuse_moments_get(total, copy, count - 1), SEGFUSE_INVALID_BUFFER);
    CHECK_STATUS(segfuse_moments_set(total, copy, count - 1), SEGFUSE_INVALID_BUFFER);
    free(copy);

    segfuse_coefficients coefficients = {0};
    call = called(&finished, 1);
    OK(segfuse_finish(cpu, plan, &total, 1, &call, &coefficients));
    CHECK(fabs(whole - finished) < 1e-6);
    buffers.gradient = again;
    OK(segfuse_gradient(cpu, plan, 0, &buffers, coefficients, NULL));
    for (size_t i = 0; i < ELEMENTS; ++i) {
        CHECK(fabsf(again[i] - gradient[i]) < 1e-8F);
    }

    segfuse_plan other = planned("tversky", &problem);
    segfuse_coefficients none = {0};
    CHECK_STATUS(segfuse_finish(cpu, other, &total, 1, NULL, &none), SEGFUSE_OTHER_PLAN);
    CHECK_STATUS(segfuse_finish(cpu, plan, &total, 0, NULL, &none), SEGFUSE_OTHER_PLAN);
    size_t kept = 0;
    CHECK_STATUS(segfuse_reduce(cpu, other, 0, &buffers, total), SEGFUSE_OTHER_PLAN);
    OK(segfuse_moments_count(total, &kept));
    CHECK(kept == count);
    CHECK(none.id == 0);
    CHECK_STATUS(segfuse_gradient(cpu, plan, 1, &buffers, coefficients, NULL), SEGFUSE_INVALID_ARGUMENT);
    CHECK_STATUS(segfuse_moments_create(plan, 1, &total), SEGFUSE_INVALID_ARGUMENT);
    OK(segfuse_coefficients_destroy(coefficients));
    CHECK_STATUS(segfuse_gradient(cpu, plan, 0, &buffers, coefficients, NULL), SEGFUSE_INVALID_HANDLE);
    OK(segfuse_moments_destroy(total));
    CHECK_STATUS(segfuse_moments_merge(sums[0], total), SEGFUSE_INVALID_HANDLE);
    OK(segfuse_plan_destroy(other));
    OK(segfuse_plan_destroy(plan));
    for (size_t t = 0; t < 2; ++t) {
        OK(segfuse_moments_destroy(sums[t]));
        OK(segfuse_plan_destroy(tiles[t]));
    }
}

static void refused_plans(void) {
    segfuse_problem problem = described(), wrong = described();
    segfuse_plan plan = {0};
    CHECK_STATUS(segfuse_plan_create("dise", &problem, &plan), SEGFUSE_INVALID_SPEC);
    CHECK(strstr(segfuse_last_error(), "dice") != NULL);
    CHECK_STATUS(segfuse_plan_create("dice(", &problem, &plan), SEGFUSE_INVALID_SPEC);
    CHECK_STATUS(segfuse_plan_create("focal(gamma=-1)", &problem, &plan), SEGFUSE_INVALID_SPEC);
    CHECK_STATUS(segfuse_plan_create("di\xff", &problem, &plan), SEGFUSE_INVALID_ARGUMENT);
    CHECK_STATUS(segfuse_plan_create(NULL, &problem, &plan), SEGFUSE_NULL_POINTER);
    CHECK_STATUS(segfuse_plan_create("dice", NULL, &plan), SEGFUSE_NULL_POINTER);
    CHECK_STATUS(segfuse_plan_create("dice", &problem, NULL), SEGFUSE_NULL_POINTER);
    CHECK_STATUS(segfuse_plan_create_heads("dice", &problem, NULL, 1, &plan), SEGFUSE_NULL_POINTER);
    CHECK_STATUS(segfuse_plan_create_heads("dice", NULL, NULL, 0, &plan), SEGFUSE_INVALID_PROBLEM);

    wrong.size = 0;
    CHECK_STATUS(segfuse_plan_create("dice", &wrong, &plan), SEGFUSE_INVALID_ARGUMENT);
    wrong.size = offsetof(segfuse_problem, spacing) - sizeof(size_t);
    CHECK_STATUS(segfuse_plan_create("dice", &wrong, &plan), SEGFUSE_INVALID_ARGUMENT);
    wrong = described();
    wrong.flags = 1U << 31;
    CHECK_STATUS(segfuse_plan_create("dice", &wrong, &plan), SEGFUSE_INVALID_ARGUMENT);
    wrong = described();
    wrong.prediction = 99;
    CHECK_STATUS(segfuse_plan_create("dice", &wrong, &plan), SEGFUSE_INVALID_ARGUMENT);
    CHECK(strstr(segfuse_last_error(), "prediction") != NULL);
    wrong = described();
    wrong.spatial[0] = 0;
    CHECK_STATUS(segfuse_plan_create("dice", &wrong, &plan), SEGFUSE_INVALID_ARGUMENT);
    wrong = described();
    wrong.samples = 0;
    CHECK_STATUS(segfuse_plan_create("dice", &wrong, &plan), SEGFUSE_INVALID_PROBLEM);
    wrong = described();
    wrong.classes = 1;
    wrong.activation = SEGFUSE_SOFTMAX;
    CHECK_STATUS(segfuse_plan_create("dice", &wrong, &plan), SEGFUSE_INVALID_PROBLEM);
    wrong = described();
    wrong.class_weight_count = CLASSES;
    CHECK_STATUS(segfuse_plan_create("dice", &wrong, &plan), SEGFUSE_NULL_POINTER);
    CHECK(plan.id == 0);

    /* A caller with a newer header: what it adds must be 0. */
    struct {
        segfuse_problem known;
        uint64_t added;
    } newer = {described(), 0};
    newer.known.size = sizeof newer;
    OK(segfuse_plan_create("dice", &newer.known, &plan));
    OK(segfuse_plan_destroy(plan));
    newer.added = 1;
    CHECK_STATUS(segfuse_plan_create("dice", &newer.known, &plan), SEGFUSE_INVALID_ARGUMENT);
}

static void refused_buffers(void) {
    float logits[ELEMENTS + 1], gradient[ELEMENTS + 1];
    uint8_t labels[SAMPLES * VOXELS];
    fill(logits, labels);
    logits[ELEMENTS] = 0.0F;
    for (size_t i = 0; i <= ELEMENTS; ++i) {
        gradient[i] = 7.0F;
    }
    segfuse_problem problem = described();
    segfuse_plan plan = planned("dice", &problem);
    segfuse_buffers good = buffered(logits, labels, gradient), bad = good;
    bad.prediction = NULL;
    CHECK_STATUS(segfuse_forward_backward(cpu, plan, &bad, 1, NULL), SEGFUSE_INVALID_BUFFER);
    bad = good;
    bad.prediction_bytes -= 4;
    CHECK_STATUS(segfuse_forward_backward(cpu, plan, &bad, 1, NULL), SEGFUSE_INVALID_BUFFER);
    CHECK(strstr(segfuse_last_error(), "840") != NULL && strstr(segfuse_last_error(), "836") != NULL);
    bad = good;
    bad.target_bytes *= 8;
    CHECK_STATUS(segfuse_forward(cpu, plan, &bad, 1, NULL), SEGFUSE_INVALID_BUFFER);
    bad = good;
    bad.gradient_bytes = 0;
    CHECK_STATUS(segfuse_forward_backward(cpu, plan, &bad, 1, NULL), SEGFUSE_INVALID_BUFFER);
    OK(segfuse_forward(cpu, plan, &bad, 1, NULL));
    bad = good;
    bad.mask = labels;
    bad.mask_bytes = sizeof labels;
    CHECK_STATUS(segfuse_forward_backward(cpu, plan, &bad, 1, NULL), SEGFUSE_INVALID_BUFFER);
    bad = good;
    bad.gradient = (char *)gradient + 2;
    CHECK_STATUS(segfuse_forward_backward(cpu, plan, &bad, 1, NULL), SEGFUSE_INVALID_BUFFER);
    bad = good;
    bad.gradient = logits + 1;
    CHECK_STATUS(segfuse_forward_backward(cpu, plan, &bad, 1, NULL), SEGFUSE_INVALID_BUFFER);
    bad = good;
    bad.size = 8;
    CHECK_STATUS(segfuse_forward_backward(cpu, plan, &bad, 1, NULL), SEGFUSE_INVALID_ARGUMENT);
    CHECK_STATUS(segfuse_forward_backward(cpu, plan, NULL, 1, NULL), SEGFUSE_NULL_POINTER);
    segfuse_call call = {0};
    CHECK_STATUS(segfuse_forward_backward(cpu, plan, &good, 1, &call), SEGFUSE_INVALID_ARGUMENT);
    for (size_t i = 0; i <= ELEMENTS; ++i) {
        CHECK(gradient[i] == 7.0F);
    }
    OK(segfuse_plan_destroy(plan));
}

static void stale_handles(void) {
    float logits[ELEMENTS], gradient[ELEMENTS];
    uint8_t labels[SAMPLES * VOXELS];
    fill(logits, labels);
    segfuse_problem problem = described();
    segfuse_plan plan = planned("dice", &problem), none = {0}, device_as_plan = {0};
    device_as_plan.id = cpu.id;
    segfuse_buffers buffers = buffered(logits, labels, gradient);
    segfuse_sizes sizes;
    OK(segfuse_plan_destroy(plan));
    CHECK_STATUS(segfuse_forward_backward(cpu, plan, &buffers, 1, NULL), SEGFUSE_INVALID_HANDLE);
    CHECK_STATUS(segfuse_plan_sizes(plan, &sizes), SEGFUSE_INVALID_HANDLE);
    CHECK_STATUS(segfuse_plan_destroy(plan), SEGFUSE_INVALID_HANDLE);
    CHECK_STATUS(segfuse_plan_sizes(none, &sizes), SEGFUSE_INVALID_HANDLE);
    CHECK_STATUS(segfuse_plan_sizes(device_as_plan, &sizes), SEGFUSE_INVALID_HANDLE);
    OK(segfuse_plan_destroy(none));
    segfuse_plan next = planned("dice", &problem);
    CHECK(next.id != plan.id);
    CHECK_STATUS(segfuse_plan_sizes(plan, &sizes), SEGFUSE_INVALID_HANDLE);
    segfuse_device device = {0};
    OK(segfuse_device_create("cpu", &device));
    OK(segfuse_device_destroy(device));
    CHECK_STATUS(segfuse_forward(device, next, &buffers, 1, NULL), SEGFUSE_INVALID_HANDLE);
    CHECK_STATUS(segfuse_device_create("abacus", &device), SEGFUSE_NO_DEVICE);
    CHECK(strstr(segfuse_last_error(), "cpu") != NULL);
    CHECK_STATUS(segfuse_device_create("cpu", NULL), SEGFUSE_NULL_POINTER);
    OK(segfuse_plan_destroy(next));
}

static double hausdorff(const segfuse_problem *problem) {
    static float logits[ELEMENTS];
    static uint8_t labels[SAMPLES * VOXELS];
    fill(logits, labels);
    segfuse_plan plan = planned("hausdorff_dt(alpha=1)", problem);
    segfuse_buffers buffers = buffered(logits, labels, NULL);
    double loss = NAN;
    segfuse_call call = called(&loss, 1);
    OK(segfuse_forward(cpu, plan, &buffers, 1, &call));
    OK(segfuse_plan_destroy(plan));
    return loss;
}

static void spacing(void) {
    const double unit[] = {1.0, 1.0}, twice[] = {2.0, 2.0}, negative[] = {1.0, -1.0};
    segfuse_problem problem = described();
    double plain = hausdorff(&problem);
    problem.spacing_count = 2;
    problem.spacing = unit;
    CHECK(plain > 0.0 && hausdorff(&problem) == plain);
    problem.spacing = twice;
    CHECK(fabs(hausdorff(&problem) - 2.0 * plain) < 1e-6 * plain);
    /* A program built against the header of version 1 has no such field. */
    problem.size = offsetof(segfuse_problem, spacing);
    CHECK(hausdorff(&problem) == plain);
    problem.size = sizeof problem;
    segfuse_plan plan;
    problem.spacing = negative;
    CHECK_STATUS(segfuse_plan_create("hausdorff_dt", &problem, &plan), SEGFUSE_INVALID_PROBLEM);
    problem.spacing_count = 1;
    CHECK_STATUS(segfuse_plan_create("hausdorff_dt", &problem, &plan), SEGFUSE_INVALID_PROBLEM);
    problem.spacing = NULL;
    CHECK_STATUS(segfuse_plan_create("hausdorff_dt", &problem, &plan), SEGFUSE_NULL_POINTER);
}

static void texts(void) {
    CHECK(segfuse_abi_version() == SEGFUSE_ABI_VERSION);
    CHECK(strchr(segfuse_version(), '.') != NULL);
    CHECK(strcmp(segfuse_status_name(SEGFUSE_OTHER_PLAN), "SEGFUSE_OTHER_PLAN") == 0);
    CHECK(strcmp(segfuse_status_name(-1), "unknown status") == 0);
    char small[9];
    size_t length = 0;
    OK(segfuse_list_losses(SEGFUSE_TEXT, NULL, 0, &length));
    CHECK(length > sizeof small);
    char *all = malloc(length + 1);
    CHECK(all != NULL);
    OK(segfuse_list_losses(SEGFUSE_TEXT, all, length + 1, NULL));
    CHECK(strlen(all) == length && strstr(all, "\nfocal_tversky\n") != NULL);
    CHECK_STATUS(segfuse_list_losses(SEGFUSE_TEXT, small, sizeof small, &length), SEGFUSE_TOO_SMALL);
    CHECK(strlen(small) == sizeof small - 1 && strncmp(small, all, sizeof small - 1) == 0);
    CHECK_STATUS(segfuse_list_losses(SEGFUSE_TEXT, all, length, NULL), SEGFUSE_TOO_SMALL);
    CHECK_STATUS(segfuse_list_losses(SEGFUSE_TEXT, NULL, 8, &length), SEGFUSE_NULL_POINTER);
    CHECK_STATUS(segfuse_list_losses(2, NULL, 0, &length), SEGFUSE_INVALID_ARGUMENT);
    free(all);
    OK(segfuse_list_losses(SEGFUSE_JSON, NULL, 0, &length));
    CHECK(length > 1000);
    OK(segfuse_list_devices(SEGFUSE_JSON, NULL, 0, &length));
    char devices[4096], description[256], explained[4096];
    OK(segfuse_list_devices(SEGFUSE_TEXT, devices, sizeof devices, NULL));
    CHECK(strstr(devices, "cpu\t") != NULL);
    OK(segfuse_device_description(cpu, description, sizeof description, NULL));
    CHECK(strstr(description, "threads") != NULL);
    segfuse_problem problem = described();
    segfuse_plan plan = planned("dice", &problem);
    OK(segfuse_plan_explain(plan, SEGFUSE_TEXT, explained, sizeof explained, NULL));
    CHECK(strstr(explained, "moments") != NULL);
    OK(segfuse_plan_explain(plan, SEGFUSE_JSON, explained, sizeof explained, NULL));
    CHECK(explained[0] == '{');
    OK(segfuse_plan_destroy(plan));
}

int main(void) {
    CHECK(segfuse_last_error()[0] == '\0');
    OK(segfuse_device_create_cpu(0, &cpu));
    texts();
    values();
    per_sample();
    settings();
    deep_supervision();
    stages();
    refused_plans();
    refused_buffers();
    stale_handles();
    spacing();
    OK(segfuse_device_destroy(cpu));
    printf("%d failures\n", failures);
    return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
