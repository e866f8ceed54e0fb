/* Trains a model in C: logistic regression per pixel, on images made here.
 *
 * A disc brighter than its ground, under noise. The model sees a pixel and the mean around it; its logit is
 * w0 + w1*pixel + w2*mean. The library gives the loss and its gradient by the logits; the rest is the chain rule.
 */
#include <segfuse.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { IMAGES = 8, SIDE = 48, PIXELS = SIDE * SIDE, ALL = IMAGES * PIXELS, FEATURES = 3, STEPS = 60 };

static void require(segfuse_status status, const char *what) {
    if (status != SEGFUSE_OK) {
        fprintf(stderr, "%s: %s: %s\n", what, segfuse_status_name(status), segfuse_last_error());
        exit(EXIT_FAILURE);
    }
}

/* Uniform in [0, 1), the same on every machine. */
static float uniform(uint32_t *state) {
    *state = *state * 1664525U + 1013904223U;
    return (float)(*state >> 8) / 16777216.0F;
}

static void draw(float (*features)[FEATURES], uint8_t *labels) {
    static float pixels[ALL];
    uint32_t state = 1;
    for (int image = 0; image < IMAGES; ++image) {
        float x = SIDE * (0.3F + 0.4F * uniform(&state)), y = SIDE * (0.3F + 0.4F * uniform(&state));
        float radius = SIDE * (0.1F + 0.1F * uniform(&state));
        for (int i = 0; i < PIXELS; ++i) {
            float dx = (float)(i % SIDE) - x, dy = (float)(i / SIDE) - y;
            int inside = dx * dx + dy * dy < radius * radius;
            labels[image * PIXELS + i] = (uint8_t)inside;
            pixels[image * PIXELS + i] = 0.6F * (float)inside + 1.2F * (uniform(&state) - 0.5F);
        }
    }
    for (int i = 0; i < ALL; ++i) {
        int row = i % PIXELS / SIDE, column = i % SIDE, count = 0;
        float sum = 0.0F;
        for (int dy = -2; dy <= 2; ++dy) {
            for (int dx = -2; dx <= 2; ++dx) {
                if (row + dy >= 0 && row + dy < SIDE && column + dx >= 0 && column + dx < SIDE) {
                    sum += pixels[i + dy * SIDE + dx];
                    ++count;
                }
            }
        }
        features[i][0] = 1.0F;
        features[i][1] = pixels[i];
        features[i][2] = sum / (float)count;
    }
}

int main(void) {
    static float features[ALL][FEATURES], logits[ALL];
    static uint8_t labels[ALL];
    draw(features, labels);

    segfuse_device cpu;
    require(segfuse_device_create("cpu", &cpu), "cpu");
    segfuse_problem problem = {0};
    problem.size = sizeof problem;
    problem.samples = IMAGES;
    problem.classes = 1;
    problem.spatial[0] = problem.spatial[1] = SIDE;
    segfuse_plan plan;
    require(segfuse_plan_create("dice + bce", &problem, &plan), "plan");

    segfuse_buffers buffers = {0};
    buffers.size = sizeof buffers;
    require(segfuse_plan_buffers(plan, 0, &buffers), "buffers");
    buffers.prediction = logits;
    buffers.target = labels;
    buffers.gradient = logits; /* in place: the logits are not needed afterwards */
    double loss = 0.0, first = 0.0;
    segfuse_call call = {0};
    call.size = sizeof call;
    call.losses = &loss;
    call.loss_count = 1;

    double weights[FEATURES] = {0.0};
    for (int step = 0; step <= STEPS; ++step) {
        for (int i = 0; i < ALL; ++i) {
            double logit = 0.0;
            for (int k = 0; k < FEATURES; ++k) {
                logit += weights[k] * features[i][k];
            }
            logits[i] = (float)logit;
        }
        require(segfuse_forward_backward(cpu, plan, &buffers, 1, &call), "loss and gradient");
        for (int k = 0; k < FEATURES; ++k) {
            double slope = 0.0;
            for (int i = 0; i < ALL; ++i) {
                slope += (double)logits[i] * features[i][k];
            }
            weights[k] -= 20.0 * slope;
        }
        if (step == 0) {
            first = loss;
        }
        if (step % 10 == 0) {
            printf("step %3d  loss %.6f\n", step, loss);
        }
    }
    require(segfuse_plan_destroy(plan), "plan");
    require(segfuse_device_destroy(cpu), "cpu");
    if (!(loss < 0.5 * first)) {
        fprintf(stderr, "the loss has not fallen to half: %f, then %f\n", first, loss);
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
