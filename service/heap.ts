/**
 * How often V8 collects what nobody needs. Every piece that comes in over HTTP/2 is memory outside of its heap, gone
 * in milliseconds, which its young collections (half a millisecond each) let go of. But V8 begins to mark all of the heap when that
 * and the heap together have grown by some tens of megabytes since it last did, which at hundreds of megabytes a second is
 * fifteen times a second: a third of all CPU time, on helper threads and on the one that matters. With a heap that may become
 * three times as large first, some 60 MB, it does so every few seconds.
 */
import { setFlagsFromString } from 'node:v8';

const GROWING_PERCENT = 200;

/** For this process, from now on: V8 reads it at each full collection. One that does not know it says so on stderr. */
export function collectSeldom(): void {
  setFlagsFromString(`--heap-growing-percent=${GROWING_PERCENT}`);
}
