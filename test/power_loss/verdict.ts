/** What is found about a state. */

/** Of one state: what more of it is wrong follows from these. */
const VIOLATIONS_MAX = 8;

/**
 * What may be broken: `opens` that a store opens and finds nothing missing; R3, R4, R6; R8 that what may differ is marked; `checkpoint` that one that was made
 * is there; `ingest` that the journal goes on; `agent` that an agent knows who it is and what it has used; `R5` that what a verification has found is not
 * forgotten, and nothing else is called damaged; `truth` that
 * the journal in the end is what the writers saw.
 */
export const PROMISES = [
  'opens',
  'R3',
  'R4',
  'R5',
  'R6',
  'R8',
  'checkpoint',
  'ingest',
  'agent',
  'truth',
] as const;
export type BrokenPromise = (typeof PROMISES)[number];
export interface Violation {
  promise: BrokenPromise;
  text: string;
}
export class Violations {
  readonly all: Violation[] = [];

  add(promise: BrokenPromise, text: string): void {
    if (this.all.length < VIOLATIONS_MAX) this.all.push({ promise, text });
  }
}

export interface Verdict {
  violations: Violations;
  /** What was looked at. */
  points: number;
  frames: number;
  /** Extents that had to be marked, and those that were not and had to be equal. */
  marked: number;
  unmarked: number;
}
