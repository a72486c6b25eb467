/** Answers to what began one after the other: told in that order, whenever each comes. */
export class OrderedAnswers {
  readonly #open: { tell: (() => void) | null }[] = [];

  /** Something has begun; what it returns takes its answer, once. */
  begin(): (tell: () => void) => void {
    const slot: { tell: (() => void) | null } = { tell: null };
    this.#open.push(slot);
    return (tell) => {
      slot.tell = tell;
      for (let first = this.#open[0]; first?.tell != null; first = this.#open[0]) {
        this.#open.shift();
        first.tell();
      }
    };
  }
}
