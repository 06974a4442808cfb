// Timers in a binary heap, the one due next at the top.
#pragma once
#include <stdint.h>
#include <stdlib.h>

typedef struct {
  uint64_t due;
  int place; // in the heap, from 1; 0: not waiting
} timer;

static timer **heap; // from index 1
static int heap_len, heap_cap;

static timer *timer_next(void) { return heap_len ? heap[1] : NULL; }

static void heap_put(timer *t, int place) {
  heap[place] = t;
  t->place = place;
}

static void heap_settle(timer *t, int i) {
  for (; i > 1 && heap[i / 2]->due > t->due; i /= 2) heap_put(heap[i / 2], i);
  for (int child; (child = 2 * i) <= heap_len; i = child) {
    if (child < heap_len && heap[child + 1]->due < heap[child]->due) child++;
    if (heap[child]->due >= t->due) break;
    heap_put(heap[child], i);
  }
  heap_put(t, i);
}

// Starts a timer, or moves one that waits already.
static void timer_start(timer *t, uint64_t due) {
  t->due = due;
  if (t->place) return heap_settle(t, t->place);
  if (heap_len + 1 >= heap_cap) {
    heap_cap = heap_cap ? heap_cap * 2 : 256;
    heap = realloc(heap, heap_cap * sizeof *heap);
    if (!heap) abort();
  }
  heap_settle(t, ++heap_len);
}

static void timer_stop(timer *t) {
  int place = t->place;
  if (!place) return;
  timer *last = heap[heap_len--];
  t->place = 0;
  if (last != t) heap_settle(last, place);
}
