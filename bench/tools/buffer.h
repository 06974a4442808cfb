// A growable byte buffer, read from the front and written at the end.
#pragma once
#include <stdlib.h>
#include <string.h>

typedef struct {
  char *data;
  size_t len, cap;
} buffer;

static void buffer_reserve(buffer *b, size_t need) {
  if (b->cap >= need) return;
  size_t cap = b->cap ? b->cap : 4096;
  while (cap < need) cap *= 2;
  b->data = realloc(b->data, cap);
  if (!b->data) abort();
  b->cap = cap;
}

static void buffer_add(buffer *b, const char *bytes, size_t n) {
  buffer_reserve(b, b->len + n);
  memcpy(b->data + b->len, bytes, n);
  b->len += n;
}

static void buffer_drop(buffer *b, size_t n) {
  memmove(b->data, b->data + n, b->len - n);
  b->len -= n;
}

static void buffer_free(buffer *b) {
  free(b->data);
  *b = (buffer){0};
}
