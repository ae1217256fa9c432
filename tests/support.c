#include "tests/support.h"

#include "tests/threads.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(_WIN32)
#include <malloc.h>
#include <windows.h>
#else
#include <sys/mman.h>
#include <unistd.h>
#endif

enum { CANARY = 0xa5 };

static uint64_t run_seed;

void test_start(const char *program) {
    const char *given = getenv("FFF_TEST_SEED");
    run_seed = given != NULL ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
    printf("%s: FFF_TEST_SEED=%llu repeats this run\n", program, (unsigned long long)run_seed);
    fflush(stdout);
}

uint64_t test_random(const char *test) {
    uint64_t state = run_seed;
    for (; *test != '\0'; test++) {
        state = (state ^ (uint64_t)(unsigned char)*test) * 0x100000001b3u;
    }
    return state;
}

bool is_short(void) {
    return getenv("FFF_TEST_SHORT") != NULL;
}

bool chance(uint64_t *state, unsigned of) {
    return random_below(state, of) == 0;
}

static float any_bits(uint64_t *state) {
    uint32_t bits = (uint32_t)random_bits(state);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static float one_float(enum fill kind, uint64_t *state) {
    uint64_t choice = random_below(state, 3);
    switch (kind) {
    case FILL_NORMAL: return random_normal(state);
    case FILL_ANY_BITS: return any_bits(state);
    case FILL_SIGNED_ZEROS: return choice == 0 ? 0.0f : -0.0f;
    case FILL_FEW_VALUES: return (float)choice - 1.0f;
    case FILL_TINY: return random_normal(state) * (choice == 0 ? 0x1p-140f : 0x1p-75f);
    case FILL_HUGE: return random_normal(state) * (choice == 0 ? 0x1p125f : 0x1p64f);
    case FILL_MIXED_SCALES: return ldexpf(random_normal(state), (int)random_below(state, 120) - 60);
    case FILL_LARGEST: return choice == 0 ? -3.40282347e38f : 3.40282347e38f;
    case FILL_KINDS: break;
    }
    return 0.0f;
}

const char *fill_name(enum fill kind) {
    static const char *const names[FILL_KINDS] = {"normal numbers",  "any bits",       "signed zeros",
                                                  "few values",      "tiny numbers",   "huge numbers",
                                                  "of mixed scales", "largest numbers"};
    return names[kind];
}

void fill_floats(enum fill kind, float *values, size_t count, uint64_t *state) {
    for (size_t i = 0; i < count; i++) {
        values[i] = one_float(kind, state);
    }
}

/* ---- What systems do each in its own way -------------------------------------------------------- */

#if defined(_WIN32)

static size_t page_bytes(void) {
    SYSTEM_INFO system;
    GetSystemInfo(&system);
    return system.dwPageSize;
}

/* Whole pages, the last of which nobody may touch. */
static void *map_with_guard(size_t usable, size_t guard) {
    unsigned char *mapping = VirtualAlloc(NULL, usable + guard, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
    DWORD before;
    assert_non_null(mapping);
    assert_true(VirtualProtect(mapping + usable, guard, PAGE_NOACCESS, &before));
    return mapping;
}

static void unmap(void *mapping, size_t size) {
    (void)size;
    VirtualFree(mapping, 0, MEM_RELEASE);
}

void *test_allocate_aligned(size_t alignment, size_t size) {
    return _aligned_malloc(size, alignment);
}

void test_free_aligned(void *memory) {
    _aligned_free(memory);
}

void test_set_environment(const char *name, const char *value) {
    assert_int_equal(_putenv_s(name, value != NULL ? value : ""), 0);
}

#else

static size_t page_bytes(void) {
    return (size_t)sysconf(_SC_PAGESIZE);
}

/* Whole pages, the last of which nobody may touch. */
static void *map_with_guard(size_t usable, size_t guard) {
    unsigned char *mapping = mmap(NULL, usable + guard, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true((void *)mapping != MAP_FAILED);
    assert_int_equal(mprotect(mapping + usable, guard, PROT_NONE), 0);
    return mapping;
}

static void unmap(void *mapping, size_t size) {
    munmap(mapping, size);
}

void *test_allocate_aligned(size_t alignment, size_t size) {
    return aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
}

void test_free_aligned(void *memory) {
    free(memory);
}

void test_set_environment(const char *name, const char *value) {
    assert_int_equal(value != NULL ? setenv(name, value, 1) : unsetenv(name), 0);
}

#endif

/* ---- Memory ---------------------------------------------------------------------------------- */

struct guarded guarded_allocate(size_t size) {
    size_t page = page_bytes();
    size_t usable = (size + page) / page * page; /* at least one byte of canary */
    struct guarded memory = {.size = size, .mapping_size = usable + page};
    memory.mapping = map_with_guard(usable, page);
    memset(memory.mapping, CANARY, usable);
    memory.data = memory.mapping + usable - size;
    return memory;
}

void guarded_free(struct guarded *memory) {
    for (unsigned char *p = memory->mapping; p < (unsigned char *)memory->data; p++) {
        if (*p != CANARY) {
            fail_msg("written %zu bytes before the buffer", (size_t)((unsigned char *)memory->data - p));
        }
    }
    unmap(memory->mapping, memory->mapping_size);
}

void assert_same_floats(const float *actual, const float *expected, size_t count, const char *what) {
    for (size_t i = 0; i < count; i++) {
        if (memcmp(&actual[i], &expected[i], sizeof *actual) != 0 && !(isnan(actual[i]) && isnan(expected[i]))) {
            fail_msg("%s: element %zu of %zu is %a, should be %a", what, i, count, (double)actual[i],
                     (double)expected[i]);
        }
    }
}

/* ---- Threads --------------------------------------------------------------------------------- */

void test_run_on_threads(void *context, size_t count, void (*task)(void *argument, size_t index), void *argument) {
    (void)context;
    assert_true(threads_run(count, task, argument));
}

void *test_allocate(size_t count, size_t size) {
    void *memory = calloc(count + 1, size);
    assert_non_null(memory);
    return memory;
}

fff_layer *test_create_layer(const fff_layer_desc *desc, fff_isa isa) {
    fff_layer_desc named = *desc;
    named.isa = isa;
    fff_layer *layer = NULL;
    assert_int_equal(fff_layer_create(&named, &layer), FFF_OK);
    assert_non_null(layer);
    assert_int_equal(fff_layer_isa(layer), isa);
    if (desc->leaf_width == 0 && desc->next == NULL) {
        assert_int_equal(fff_layer_path_length(layer), desc->trees * (desc->depth + 1));
    }
    return layer;
}
