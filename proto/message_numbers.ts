/** The numbers that every message of a session stream carries (replication.proto, `sequence`), of one connection. */
export class MessageNumbers {
  #sent = 0;
  #expected = 0;

  /** A new connection. */
  reset(): void {
    this.#sent = 0;
    this.#expected = 0;
  }
  /** The number of the message that is sent now. A frame uses one up without carrying it. */
  next(): number {
    const sequence = this.#sent;
    this.#sent = (sequence + 1) >>> 0;
    return sequence;
  }
  /** A frame came: it has no number to compare. */
  frame(): void {
    this.#expected = (this.#expected + 1) >>> 0;
  }
  /** Null: it is the next one. Else what is wrong. */
  check(sequence: number): string | null {
    const expected = this.#expected;
    if (sequence !== expected) return `message ${sequence} came where message ${expected} was next`;
    this.#expected = (expected + 1) >>> 0;
    return null;
  }
}
