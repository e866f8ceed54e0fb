/* What the test programs share: a check that counts, and the problem that they compute. */
#ifndef CHECK_H
#define CHECK_H

#include <math.h>
#include <segfuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failures = 0;

#define CHECK(condition)                                                                                       \
    do {                                                                                                       \
        if (!(condition)) {                                                                                    \
            ++failures;                                                                                        \
            fprintf(stderr, "%s:%d: not so: %s (last error: %s)\n", __FILE__, __LINE__, #condition,            \
                    segfuse_last_error());                                                                     \
        }                                                                                                      \
    } while (0)

#define CHECK_STATUS(call, expected)                                                                           \
    do {                                                                                                       \
        segfuse_status got_ = (call);                                                                          \
        if (got_ != (expected)) {                                                                              \
            ++failures;                                                                                        \
            fprintf(stderr, "%s:%d: %s gave %s (%s), expected %s\n", __FILE__, __LINE__, #call,                \
                    segfuse_status_name(got_), segfuse_last_error(), segfuse_status_name(expected));           \
        }                                                                                                      \
    } while (0)

#define OK(call) CHECK_STATUS(call, SEGFUSE_OK)

enum { SAMPLES = 2, CLASSES = 3, HEIGHT = 5, WIDTH = 7, VOXELS = HEIGHT * WIDTH, ELEMENTS = SAMPLES * CLASSES * VOXELS };

/* Logits between -2.7 and 2.7 and labels of all classes, from small cycles. */
static void fill(float *logits, uint8_t *labels) {
    for (size_t i = 0; i < ELEMENTS; ++i) {
        logits[i] = ((float)(i * 29 % 17) - 8.0F) / 3.0F;
    }
    for (size_t i = 0; i < SAMPLES * VOXELS; ++i) {
        labels[i] = (uint8_t)(i * 5 % 7 % CLASSES);
    }
}

#endif
