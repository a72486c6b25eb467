/** What a verb may see of the world, so that a test can run one without a process around it. */
import type { StopSignals } from '../service/signals.js';
import type { Daemons } from './daemons.js';

/** A stream to write text to. */
export interface Output {
  write(text: string): void;
  readonly isTerminal: boolean;
  /** Width in characters, when it is a terminal; otherwise 80. */
  readonly columns: number;
}

export interface Surroundings {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  /** Results. */
  readonly stdout: Output;
  /** Progress and errors. */
  readonly stderr: Output;
  /** All of standard input. */
  readonly readInput: () => Promise<string>;
  /** Puts a question that takes yes or no; null where nobody could answer. */
  readonly ask: ((question: string) => Promise<boolean>) | null;
  /** `drain` interrupts whatever a verb waits for; the daemons know both. */
  readonly stop: StopSignals;
  /** Resolves after so many milliseconds, or as soon as `signal` is aborted. */
  readonly sleep: (ms: number, signal: AbortSignal) => Promise<void>;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  readonly daemons: Daemons;
  readonly version: string;
}
