/** Of what a capture group delivers nothing is lost between two takers, whatever becomes of the first. */
import t from 'tap';
import { Deliveries } from '../../agent/deliveries.js';
import type { CapturedDelivery } from '../../native/index.js';

const FRAME = { kind: 'frame' } as CapturedDelivery;

// Symptom: a group whose call for the next frame had thrown never asked again, and shipped nothing until a restart.
t.test('a call that throws is told, and owes nothing to the next taker', async (t) => {
  let calls = 0;
  const deliveries = new Deliveries({
    next() {
      calls += 1;
      if (calls === 1) throw new Error('already waiting');
      return Promise.resolve(FRAME);
    },
  });
  await t.rejects(deliveries.next(), /already waiting/);
  t.equal(await deliveries.next(), FRAME);
});

t.test('what a taker waited for that is gone goes to the next', async (t) => {
  let deliver: (delivery: CapturedDelivery) => void = () => undefined;
  let calls = 0;
  const deliveries = new Deliveries({
    next() {
      calls += 1;
      return new Promise((resolve) => (deliver = resolve));
    },
  });
  void deliveries.next();
  deliveries.forsake();
  const next = deliveries.next();
  t.equal(calls, 1, 'the group takes one call at a time');
  deliver(FRAME);
  t.equal(await next, FRAME);
});
