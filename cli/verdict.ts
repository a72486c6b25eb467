/** How a verb ends that did its work, said what it found on stdout, and says it by its exit status too. */
export class Verdict extends Error {
  /** `exit`: one of EXIT. */
  constructor(readonly exit: number) {
    super(`exit status ${exit}`);
  }
}
