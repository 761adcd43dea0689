/* Ask an exported model without Python: TensorFlow's C interface alone, the loader that TF Serving calls.
 *
 *     ask_export QUESTIONS ANSWERS
 *
 * Both are binary files in this machine's byte order. An int is 64 bits; bytes are an int, their number, and then
 * themselves; many is an int, how many, and then each.
 *
 * QUESTIONS: bytes the export's folder, bytes a serialized ConfigProto (may be empty), and many questions:
 *     int warm_up, int repeats (1 or more);
 *     many inputs: bytes operation, int index, int dtype (1 float, 7 string), many int sides, and the values:
 *         of floats one bytes, of strings each its bytes;
 *     many outputs: bytes operation, int index.
 * ANSWERS, written as far as they are known, so that a crash shows the question it came with:
 *     of loading: int code, bytes message, int nanoseconds;
 *     of each question: int code, bytes message, many int nanoseconds (one a repeat); and, where code is 0, many
 *         outputs: int dtype, many int sides, values as above.
 * A code is a TF_Code; 0 is well. The exit status is 0 also where the export answers with a refusal, 2 where QUESTIONS is
 * damaged or ANSWERS cannot be written.
 */
#define _POSIX_C_SOURCE 200809L /* clock_gettime */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tensorflow/c/c_api.h"

#define MOST_TENSORS 16
#define MOST_SIDES 8

typedef struct {
  int count;
  TF_Output places[MOST_TENSORS];
  TF_Tensor *tensors[MOST_TENSORS];
} Tensors;

static FILE *questions, *answers;

static void stop(const char *reason) {
  fprintf(stderr, "ask_export: %s\n", reason);
  exit(2);
}

static int64_t now_ns(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void read_exactly(void *to, size_t size) {
  if (size != 0 && fread(to, 1, size, questions) != size) stop("the questions end too early");
}

static int64_t read_int(void) {
  int64_t value;
  read_exactly(&value, sizeof value);
  return value;
}

static int64_t read_up_to(int64_t most) {
  int64_t value = read_int();
  if (value < 0 || value > most) stop("a number in the questions is out of range");
  return value;
}

/* Return bytes with a 0 behind them; the caller frees them. */
static char *read_bytes(size_t *size) {
  *size = (size_t)read_up_to(INT64_C(1) << 40);
  char *bytes = malloc(*size + 1);
  if (bytes == NULL) stop("no memory");
  read_exactly(bytes, *size);
  bytes[*size] = 0;
  return bytes;
}

static void write_exactly(const void *from, size_t size) {
  if (size != 0 && fwrite(from, 1, size, answers) != size) stop("the answers cannot be written");
}

static void write_int(int64_t value) { write_exactly(&value, sizeof value); }

static void write_bytes(const void *from, size_t size) {
  write_int((int64_t)size);
  write_exactly(from, size);
}

static void write_status(const TF_Status *status) {
  write_int(TF_GetCode(status));
  write_bytes(TF_Message(status), strlen(TF_Message(status)));
}

static void told(void) {
  if (fflush(answers) != 0) stop("the answers cannot be written");
}

static size_t count_of(const TF_Tensor *tensor) { return (size_t)TF_TensorElementCount(tensor); }

static TF_Tensor *read_tensor(void) {
  int64_t dtype = read_int(), sides[MOST_SIDES], count = 1;
  int rank = (int)read_up_to(MOST_SIDES);
  if (dtype != TF_FLOAT && dtype != TF_STRING) stop("an input is neither float nor string");
  for (int side = 0; side < rank; side++) {
    sides[side] = read_up_to(INT64_C(1) << 32);
    if (sides[side] != 0 && count > (INT64_C(1) << 32) / sides[side]) stop("an input is too large");
    count *= sides[side];
  }
  size_t size = (size_t)count * (dtype == TF_FLOAT ? sizeof(float) : sizeof(TF_TString));
  TF_Tensor *tensor = TF_AllocateTensor((TF_DataType)dtype, sides, rank, size);
  if (tensor == NULL) stop("no memory");
  if (dtype == TF_FLOAT) {
    if ((size_t)read_int() != size) stop("floats are not as many as their sides say");
    read_exactly(TF_TensorData(tensor), size);
    return tensor;
  }
  TF_TString *strings = TF_TensorData(tensor);
  for (int64_t index = 0; index < count; index++) {
    char *bytes = read_bytes(&size);
    TF_StringInit(&strings[index]);
    TF_StringCopy(&strings[index], bytes, size);
    free(bytes);
  }
  return tensor;
}

static void write_tensor(const TF_Tensor *tensor) {
  TF_DataType dtype = TF_TensorType(tensor);
  write_int(dtype);
  write_int(TF_NumDims(tensor));
  for (int side = 0; side < TF_NumDims(tensor); side++) write_int(TF_Dim(tensor, side));
  if (dtype != TF_STRING) {
    write_bytes(TF_TensorData(tensor), TF_TensorByteSize(tensor));
    return;
  }
  const TF_TString *strings = TF_TensorData(tensor);
  for (size_t index = 0; index < count_of(tensor); index++)
    write_bytes(TF_StringGetDataPointer(&strings[index]), TF_StringGetSize(&strings[index]));
}

static void delete_tensors(Tensors *all) {
  for (int index = 0; index < all->count; index++) {
    TF_Tensor *tensor = all->tensors[index];
    if (tensor == NULL) continue;
    /* Deleting a tensor leaves the text of its strings. */
    if (TF_TensorType(tensor) == TF_STRING) {
      TF_TString *strings = TF_TensorData(tensor);
      for (size_t one = 0; one < count_of(tensor); one++) TF_StringDealloc(&strings[one]);
    }
    TF_DeleteTensor(tensor);
    all->tensors[index] = NULL;
  }
}

static void read_places(Tensors *all, TF_Graph *graph, TF_Status *status, int with_values) {
  all->count = (int)read_up_to(MOST_TENSORS);
  for (int index = 0; index < all->count; index++) {
    size_t size;
    char *name = read_bytes(&size);
    all->places[index].oper = TF_GraphOperationByName(graph, name);
    all->places[index].index = (int)read_up_to(INT32_MAX);
    all->tensors[index] = with_values ? read_tensor() : NULL;
    if (all->places[index].oper == NULL)
      TF_SetStatus(status, TF_NOT_FOUND, "the graph has no operation of that name");
    else if (all->places[index].index >= TF_OperationNumOutputs(all->places[index].oper))
      TF_SetStatus(status, TF_NOT_FOUND, "the operation has no output of that index");
    free(name);
  }
}

static void run_once(TF_Session *session, const Tensors *inputs, Tensors *outputs, TF_Status *status) {
  delete_tensors(outputs);
  TF_SessionRun(session, NULL, inputs->places, inputs->tensors, inputs->count, outputs->places,
                outputs->tensors, outputs->count, NULL, 0, NULL, status);
}

static void answer(TF_Session *session, TF_Graph *graph, TF_Status *status) {
  Tensors inputs, outputs;
  int64_t warm_up = read_up_to(INT64_C(1) << 20), repeats = read_up_to(INT64_C(1) << 20), done = 0;
  int64_t *taken = calloc((size_t)repeats + 1, sizeof *taken);
  if (taken == NULL) stop("no memory");
  TF_SetStatus(status, TF_OK, "");
  read_places(&inputs, graph, status, 1);
  read_places(&outputs, graph, status, 0);
  for (; warm_up > 0 && TF_GetCode(status) == TF_OK; warm_up--)
    run_once(session, &inputs, &outputs, status);
  while (done < repeats && TF_GetCode(status) == TF_OK) {
    int64_t begun = now_ns();
    run_once(session, &inputs, &outputs, status);
    taken[done++] = now_ns() - begun;
  }
  write_status(status);
  write_int(done);
  write_exactly(taken, (size_t)done * sizeof *taken);
  if (TF_GetCode(status) == TF_OK) {
    write_int(outputs.count);
    for (int index = 0; index < outputs.count; index++) write_tensor(outputs.tensors[index]);
  }
  told();
  delete_tensors(&inputs);
  delete_tensors(&outputs);
  free(taken);
}

static TF_Session *load(TF_Graph *graph, TF_Status *status) {
  size_t size;
  char *folder = read_bytes(&size), *config = read_bytes(&size);
  const char *tags[] = {"serve"};
  TF_SessionOptions *options = TF_NewSessionOptions();
  TF_Session *session = NULL;
  int64_t begun = now_ns();
  if (size != 0) TF_SetConfig(options, config, size, status);
  if (TF_GetCode(status) == TF_OK)
    session = TF_LoadSessionFromSavedModel(options, NULL, folder, tags, 1, graph, NULL, status);
  write_status(status);
  write_int(now_ns() - begun);
  told();
  TF_DeleteSessionOptions(options);
  free(folder);
  free(config);
  return session;
}

int main(int count, char **words) {
  if (count != 3) stop("say: ask_export QUESTIONS ANSWERS");
  questions = fopen(words[1], "rb");
  answers = fopen(words[2], "wb");
  if (questions == NULL || answers == NULL) stop("a file cannot be opened");
  TF_Status *status = TF_NewStatus();
  TF_Graph *graph = TF_NewGraph();
  TF_Session *session = load(graph, status);
  if (session != NULL)
    for (int64_t left = read_up_to(INT64_C(1) << 32); left > 0; left--) answer(session, graph, status);
  if (session != NULL) TF_DeleteSession(session, status);
  TF_DeleteGraph(graph);
  TF_DeleteStatus(status);
  return fclose(answers) == 0 ? 0 : 2;
}
