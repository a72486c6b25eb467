import { setTimeout as delay } from 'node:timers/promises';
import t from 'tap';
import { Lanes } from '../../receiver/lanes.js';

/** Work that notes when it begins, works and is told. */
function scene() {
  const lanes = new Lanes();
  const noted: string[] = [];
  let underWay = 0;
  let underWayMax = 0;
  const work = async (name: string, ms: number): Promise<void> => {
    noted.push(`${name} begins`);
    underWayMax = Math.max(underWayMax, (underWay += 1));
    await delay(ms);
    underWay -= 1;
    noted.push(`${name} ends`);
  };
  return {
    lanes,
    noted,
    mostAtOnce: () => underWayMax,
    alone: (lane: string, name: string, ms = 1) => lanes.run(lane, () => work(name, ms)),
    beside: (lane: string, name: string, ms: number) =>
      lanes.runBeside(lane, async () => {
        await work(name, ms);
        return () => void noted.push(`${name} told`);
      }),
  };
}

t.test(
  'work beside other work is told in order, and runs neither before nor after what runs alone',
  async (t) => {
    const { lanes, noted, alone, beside } = scene();
    alone('base', 'first', 20);
    beside('base', 'slow', 40);
    beside('base', 'quick', 1);
    alone('base', 'last');
    beside('base', 'late', 1);
    await lanes.idle();
    t.strictSame(noted, [
      ...['first begins', 'first ends', 'slow begins', 'quick begins', 'quick ends', 'slow ends'],
      ...['slow told', 'quick told', 'last begins', 'last ends', 'late begins', 'late ends', 'late told'],
    ]);
  },
);

t.test('no more than a few are beside each other', async (t) => {
  const { lanes, mostAtOnce, beside } = scene();
  for (let index = 0; index < 20; index += 1) beside('base', String(index), index % 3);
  await lanes.idle();
  t.equal(mostAtOnce(), 4);
});

t.test('lanes do not wait for each other, and a lane that was idle begins again', async (t) => {
  const { lanes, noted, alone } = scene();
  alone('one', 'long', 40);
  alone('other', 'short', 1);
  await lanes.idle();
  t.strictSame(noted, ['long begins', 'short begins', 'short ends', 'long ends']);
  alone('one', 'again');
  await lanes.idle();
  t.strictSame(noted.slice(4), ['again begins', 'again ends']);
});
