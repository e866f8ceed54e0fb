// Compiles CUDA C++ from standard input to PTX on standard output: nvrtc LIBRARY NAME OPTION…
//
// The order of some of the compiler's tables, and with it its text, follows from addresses, and those from the kernel, the
// libraries, the folder and the environment of whoever starts it. So what the compiler can see has a fixed address: memory is
// given out here, from one place by sizes alone; the library is loaded below one address; the stack is that of a thread whose
// stack is given. The text is then the same everywhere.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <unistd.h>

// Address space, not memory: a page is there once it is touched.
#define HEAP ((char *)0x100000000000)
#define HEAP_BYTES ((size_t)1 << 36)
#define STACK ((char *)0x200000000000)
#define STACK_BYTES ((size_t)1 << 28)
// Libraries are mapped below the lowest of what is there; this is below all that.
#define LIBRARIES_END ((char *)0x7e0000000000)
// The stack of the process may grow as far.
#define PROCESS_STACK_BYTES ((size_t)8 << 20)
// In front of a block: its size class, and in a free one the next that is free.
#define HEADER 16
// Four sizes between powers of two.
#define CLASSES 256
// Until the compiler runs, paths are allocated: whatever their lengths, one size holds them.
#define LEAST_BYTES_OF_LOADING 4096

static size_t least_bytes = LEAST_BYTES_OF_LOADING;
static char *heap_end;
static char *free_blocks[CLASSES];
static atomic_flag heap_lock = ATOMIC_FLAG_INIT;

static unsigned size_class(size_t bytes) {
    if (bytes <= 64) return bytes == 0 ? 0 : (unsigned)((bytes - 1) / 16);
    unsigned log = 63 - (unsigned)__builtin_clzll(bytes - 1);
    return 4 * (log - 5) + (unsigned)(((bytes - 1) >> (log - 2)) & 3);
}

static size_t class_bytes(unsigned class) {
    if (class < 4) return 16 * ((size_t)class + 1);
    return (size_t)(5 + class % 4) << (class / 4 + 3);
}

static unsigned *class_of(void *block) { return (unsigned *)((char *)block - HEADER); }
static char **next_of(void *block) { return (char **)((char *)block - HEADER / 2); }

static void reserve(char *address, size_t bytes, int protection) {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
    if (mmap(address, bytes, protection, flags, -1, 0) != address) abort();
}

static void *take(size_t bytes, size_t alignment) {
    if (bytes > HEAP_BYTES / 2 || alignment > HEAP_BYTES / 2) return errno = ENOMEM, NULL;
    unsigned class = size_class(bytes < least_bytes ? least_bytes : bytes);
    while (atomic_flag_test_and_set(&heap_lock)) {}
    char *block = free_blocks[class];
    if (block != NULL && (uintptr_t)block % alignment == 0) {
        free_blocks[class] = *next_of(block);
    } else {
        if (heap_end == NULL) {
            reserve(HEAP, HEAP_BYTES, PROT_READ | PROT_WRITE);
            heap_end = HEAP;
        }
        block = (char *)(((uintptr_t)heap_end + HEADER + alignment - 1) & ~(alignment - 1));
        heap_end = block + class_bytes(class);
        if (heap_end > HEAP + HEAP_BYTES) abort();
        *class_of(block) = class;
    }
    atomic_flag_clear(&heap_lock);
    return block;
}

void *malloc(size_t bytes) { return take(bytes, HEADER); }
void *memalign(size_t alignment, size_t bytes) { return take(bytes, alignment < HEADER ? HEADER : alignment); }
void *aligned_alloc(size_t alignment, size_t bytes) { return memalign(alignment, bytes); }
void *valloc(size_t bytes) { return memalign(4096, bytes); }
int posix_memalign(void **block, size_t alignment, size_t bytes) {
    *block = memalign(alignment, bytes);
    return *block == NULL ? ENOMEM : 0;
}
size_t malloc_usable_size(void *block) { return block == NULL ? 0 : class_bytes(*class_of(block)); }

void free(void *block) {
    if (block == NULL) return;
    while (atomic_flag_test_and_set(&heap_lock)) {}
    *next_of(block) = free_blocks[*class_of(block)];
    free_blocks[*class_of(block)] = block;
    atomic_flag_clear(&heap_lock);
}

void *calloc(size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) return errno = ENOMEM, NULL;
    void *block = malloc(bytes);
    return block == NULL ? NULL : memset(block, 0, bytes);
}

void *realloc(void *old, size_t bytes) {
    size_t held = malloc_usable_size(old);
    if (old != NULL && bytes <= held) return old;
    void *block = malloc(bytes);
    if (block == NULL || old == NULL) return block;
    memcpy(block, old, held);
    free(old);
    return block;
}

typedef int create(void **program, const char *source, const char *name, int headers, const char *const *, const char *const *);
typedef int compile(void *program, int options, const char *const *option);
typedef int size_of(void *program, size_t *bytes);
typedef int text_of(void *program, char *text);

static void *library;

static void *function(const char *name) {
    void *address = dlsym(library, name);
    if (address == NULL) {
        fprintf(stderr, "the compiler has no %s\n", name);
        exit(1);
    }
    return address;
}

static void check(int status, const char *what) {
    if (status == 0) return;
    fprintf(stderr, "%s: status %d\n", what, status);
    exit(1);
}

// A text of the program, such as its PTX.
static void print(FILE *to, void *program, const char *size_name, const char *text_name) {
    size_t bytes = 0;
    check(((size_of *)function(size_name))(program, &bytes), size_name);
    char *text = malloc(bytes + 1);
    check(((text_of *)function(text_name))(program, text), text_name);
    text[bytes] = 0;
    fputs(text, to);
}

// Once more, without an environment, with a stack of the usual size (without limit, libraries lie elsewhere) and, where that is
// allowed, without random addresses.
static void begin_again(char **words) {
    extern char **environ;
    if (environ[0] == NULL) return;
    struct rlimit limit;
    if (getrlimit(RLIMIT_STACK, &limit) == 0) {
        limit.rlim_cur = PROCESS_STACK_BYTES;
        setrlimit(RLIMIT_STACK, &limit);
    }
    personality(ADDR_NO_RANDOMIZE);
    char *none[] = {NULL};
    execve("/proc/self/exe", words, none);
    perror("cannot begin again");
    exit(1);
}

// Takes all that is free above, so that libraries are loaded below `LIBRARIES_END`.
static void fill(void) {
    static struct { unsigned long begin, end; } gaps[256];
    unsigned count = 0;
    unsigned long begin, end, last = (unsigned long)LIBRARIES_END;
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "r");
    if (maps == NULL) abort();
    while (fgets(line, sizeof line, maps) != NULL && sscanf(line, "%lx-%lx", &begin, &end) == 2) {
        if (end <= last) continue;
        int is_stack = strstr(line, "[stack]") != NULL;
        unsigned long until = is_stack ? begin - 2 * PROCESS_STACK_BYTES : begin;
        if (until > last && count < 256) gaps[count].begin = last, gaps[count++].end = until;
        if (is_stack) break;
        last = end;
    }
    fclose(maps);
    for (unsigned gap = 0; gap < count; ++gap) {
        reserve((char *)gaps[gap].begin, gaps[gap].end - gaps[gap].begin, PROT_NONE);
    }
}

struct Call {
    const char *library, *name;
    int options;
    const char *const *option;
};
static char source[1 << 22];

static void *compiled(void *argument) {
    const struct Call *call = argument;
    library = dlopen(call->library, RTLD_NOW);
    if (library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    least_bytes = 0;
    void *program = NULL;
    check(((create *)function("nvrtcCreateProgram"))(&program, source, call->name, 0, NULL, NULL), "creating a program");
    int status = ((compile *)function("nvrtcCompileProgram"))(program, call->options, call->option);
    print(stderr, program, "nvrtcGetProgramLogSize", "nvrtcGetProgramLog");
    check(status, "compiling");
    print(stdout, program, "nvrtcGetPTXSize", "nvrtcGetPTX");
    return NULL;
}

int main(int count, char **words) {
    if (count < 3) return fputs("nvrtc LIBRARY NAME OPTION…\n", stderr), 2;
    begin_again(words);
    size_t length = fread(source, 1, sizeof source - 1, stdin);
    if (length == sizeof source - 1) return fputs("the source is too long\n", stderr), 1;
    fill();
    reserve(STACK, STACK_BYTES, PROT_READ | PROT_WRITE);
    struct Call call = {words[1], words[2], count - 3, (const char *const *)words + 3};
    pthread_attr_t attributes;
    pthread_t thread;
    if (pthread_attr_init(&attributes) != 0 || pthread_attr_setstack(&attributes, STACK, STACK_BYTES) != 0 ||
        pthread_create(&thread, &attributes, compiled, &call) != 0 || pthread_join(thread, NULL) != 0) {
        return fputs("cannot start a thread\n", stderr), 1;
    }
    // The destructors of the library's globals may not outlive it.
    fflush(NULL);
    _exit(0);
}
