/**
 * What a capture group delivers, to one taker after the other. The group takes one call at a time, and a call that waits
 * outlives the session that made it, and the ProtectionGroup of a start that failed: the next one takes it over.
 */
import type { CapturedDelivery, CaptureGroup } from '../native/index.js';

type Delivery = CapturedDelivery | null;

interface Taker {
  resolve(delivery: Delivery): void;
  reject(error: unknown): void;
}

export class Deliveries {
  private taker: Taker | null = null;
  private isOwed = false;

  constructor(private readonly group: Pick<CaptureGroup, 'next'>) {}

  /** As CaptureGroup.next(). One call at a time. */
  next(): Promise<Delivery> {
    return new Promise((resolve, reject) => {
      this.taker = { resolve, reject };
      if (this.isOwed) return;
      const owed = this.group.next(); // it may throw, and then owes nothing
      this.isOwed = true;
      owed.then(
        (delivery) => {
          const taker = this.answered();
          if (taker !== null) taker.resolve(delivery);
          else if (delivery?.kind === 'frame') delivery.release();
        },
        (error: unknown) => this.answered()?.reject(error),
      );
    });
  }

  /** Whoever called next() wants nothing any more. */
  forsake(): void {
    this.taker = null;
  }

  private answered(): Taker | null {
    const { taker } = this;
    this.taker = null;
    this.isOwed = false;
    return taker;
  }
}
