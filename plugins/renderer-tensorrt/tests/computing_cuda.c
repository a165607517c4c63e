/* A CUDA driver whose device is the processor: memory is malloc's, copies are memcpy, a captured graph is a list of copies.
   The real cuda.bindings load it in the tests as libcuda.so.1 and find their functions by cuGetProcAddress. Copies are put
   off until somebody waits for the stream, so that what forgets to wait is seen. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef int R;
typedef struct { void *to; const void *from; size_t size; } Copy;
typedef struct { Copy *copies; int count, room; } List;
typedef struct { List queue, captured; int capturing; } Stream;

static int depth = 0, contexts = 0, blocks = 0;
static int64_t budget = 1 << 28;

static void put(List *list, Copy copy) {
  if (list->count == list->room) {
    list->room = list->room ? 2 * list->room : 16;
    list->copies = realloc(list->copies, list->room * sizeof(Copy));
  }
  list->copies[list->count++] = copy;
}
static R copied(uintptr_t to, uintptr_t from, size_t size, Stream *s) {
  if (!depth) return 201; /* CUDA_ERROR_INVALID_CONTEXT */
  put(s->capturing ? &s->captured : &s->queue, (Copy){(void *)to, (const void *)from, size});
  return 0;
}

static R init(unsigned flags) { return flags ? 1 : 0; }
static R version(int *out) { *out = 13000; return 0; }
static R count(int *out) { *out = 1; return 0; }
static R get(int *out, int index) { *out = index; return index ? 101 : 0; }
static R retain(void **out, int device) { contexts++; *out = &contexts; return 0; }
static R release(int device) { contexts--; return 0; }
static R name(char *out, int length, int device) { strncpy(out, "Computing", length); return 0; }
static R total(size_t *out, int device) { *out = budget; return 0; }
static R attribute(int *out, int which, int device) { *out = which == 75 ? 8 : which == 76 ? 9 : 0; return 0; }
static R push(void *context) { depth++; return 0; }
static R pop(void **out) { *out = &contexts; return depth-- > 0 ? 0 : 201; }
static R grab(uintptr_t *out, size_t size) {
  if (!depth) return 201;
  if ((int64_t)size > budget) return 2; /* CUDA_ERROR_OUT_OF_MEMORY */
  *out = (uintptr_t)malloc(size);
  blocks++;
  return 0;
}
static R drop(uintptr_t p) { free((void *)p); blocks--; return depth ? 0 : 201; }
static R pin(void **out, size_t size, unsigned flags) { return grab((uintptr_t *)out, size); }
static R unpin(void *p) { return drop((uintptr_t)p); }
static R stream(Stream **out, unsigned flags) { *out = calloc(1, sizeof(Stream)); return flags == 1 && depth ? 0 : 1; }
static R end(Stream *s) { free(s); return depth ? 0 : 201; }
static R wait_for(Stream *s) {
  for (int i = 0; i < s->queue.count; i++) memcpy(s->queue.copies[i].to, s->queue.copies[i].from, s->queue.copies[i].size);
  s->queue.count = 0;
  return depth ? 0 : 201;
}
static R h2d(uintptr_t to, const void *from, size_t n, Stream *s) { return copied(to, (uintptr_t)from, n, s); }
static R d2h(void *to, uintptr_t from, size_t n, Stream *s) { return copied((uintptr_t)to, from, n, s); }
static R d2d(uintptr_t to, uintptr_t from, size_t n, Stream *s) { return copied(to, from, n, s); }
static R begin(Stream *s, int mode) { s->capturing = 1; s->captured = (List){0}; return mode == 1 ? 0 : 1; }
static R finish(Stream *s, List **out) {
  s->capturing = 0;
  *out = malloc(sizeof(List));
  **out = s->captured;
  return 0;
}
static R instantiate(List **out, List *graph, unsigned long long flags) {
  *out = malloc(sizeof(List));
  **out = *graph;
  return 0;
}
static R launch(List *graph, Stream *s) {
  for (int i = 0; i < graph->count; i++) put(&s->queue, graph->copies[i]);
  return 0;
}
static R forget_graph(List *graph) { free(graph); return 0; }
static R forget_exec(List *graph) { free(graph->copies); free(graph); return 0; }
static R words(int status, const char **out) { *out = status == 2 ? "out of memory" : "something else"; return 0; }

/* What the tests ask. */
int computing_blocks(void) { return blocks; }
int computing_contexts(void) { return contexts; }

static struct { const char *name; void *function; } table[] = {
    {"cuInit", init}, {"cuDriverGetVersion", version}, {"cuDeviceGetCount", count}, {"cuDeviceGet", get},
    {"cuDevicePrimaryCtxRetain", retain}, {"cuDevicePrimaryCtxRelease", release}, {"cuDeviceGetName", name},
    {"cuDeviceTotalMem", total}, {"cuDeviceGetAttribute", attribute}, {"cuCtxPushCurrent", push},
    {"cuCtxPopCurrent", pop}, {"cuMemAlloc", grab}, {"cuMemFree", drop}, {"cuMemHostAlloc", pin},
    {"cuMemFreeHost", unpin}, {"cuStreamCreate", stream}, {"cuStreamDestroy", end},
    {"cuStreamSynchronize", wait_for}, {"cuMemcpyHtoDAsync", h2d}, {"cuMemcpyDtoHAsync", d2h},
    {"cuMemcpyDtoDAsync", d2d}, {"cuStreamBeginCapture", begin}, {"cuStreamEndCapture", finish},
    {"cuGraphInstantiate", instantiate}, {"cuGraphInstantiateWithFlags", instantiate}, {"cuGraphLaunch", launch},
    {"cuGraphDestroy", forget_graph}, {"cuGraphExecDestroy", forget_exec}, {"cuGetErrorString", words},
};

R cuGetProcAddress_v2(const char *wanted, void **out, int cuda, uint64_t flags, int *status) {
  *out = NULL;
  for (size_t i = 0; i < sizeof table / sizeof *table; i++)
    if (!strcmp(table[i].name, wanted)) *out = table[i].function;
  if (!strcmp(wanted, "cuGetProcAddress")) *out = cuGetProcAddress_v2;
  if (status) *status = *out ? 0 : 1;
  return *out ? 0 : 500; /* CUDA_ERROR_NOT_FOUND */
}
R cuGetProcAddress(const char *wanted, void **out, int cuda, uint64_t flags) {
  return cuGetProcAddress_v2(wanted, out, cuda, flags, NULL);
}
