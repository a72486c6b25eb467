/** What is remembered of volumes, some of which are on their way out. */
import { randomBytes } from 'node:crypto';
import t from 'tap';
import { systemClock } from '../../agent/clock.js';
import type { GroupConfig } from '../../agent/config.js';
import { PresentVolumes } from '../../agent/present_volumes.js';
import { MemberState, type VolumeMemory } from '../../agent/state.js';
import type { StoredState } from '../../agent/session_events.js';
import type { ProtectedVolume } from '../../agent/volume.js';
import { createLog } from '../../service/log.js';
import { scratchDirectory } from './running_agent.js';

/** One that is asked what is to be remembered of it, and answers when the test says so. */
function volume(number: number) {
  const name = `volume${number}`;
  const memory: VolumeMemory = {
    ...{ number, uuid: Buffer.alloc(16, number), size: 1n << 20n, backing: `/dev/${name}` },
    ...{ fingerprint: '', samples: '', identity: '', insertion: '' },
  };
  const answers: (() => void)[] = [];
  const one = {
    ...{ config: { name }, info: { number }, title: name },
    flush: () => Promise.resolve(),
    cleanUp: () => Promise.resolve(),
    close: () => Promise.resolve(),
    remember: (isClean: boolean) =>
      new Promise<VolumeMemory>((resolve) =>
        answers.push(() => resolve({ ...memory, samples: isClean ? 'clean' : '' })),
      ),
  };
  return { one: one as unknown as ProtectedVolume, answers };
}

// A persist that was under way had the volume compared by samples alone when it came back: it had left in good order, and what
// was remembered was a state before that.
t.test('the last word of a volume that leaves stands', async (t) => {
  const directory = scratchDirectory(t);
  const state = await MemberState.open(directory, 'shop', 'host', () => randomBytes(16));
  const [stays, leaves] = [volume(0), volume(1)];
  const surroundings = {
    ...{ door: {} as never, stateDir: directory, spoolDir: null, clock: systemClock },
    log: createLog('agent', 'fatal'),
  };
  const config = { name: 'shop' } as GroupConfig;
  const present = new PresentVolumes(config, [stays.one, leaves.one], state, surroundings);
  const persisted = present.persist({ clean: false } as StoredState, false);
  stays.answers.shift()?.();
  while (leaves.answers.length === 0) await new Promise(setImmediate);
  const before = leaves.answers.shift();
  const settled = present.settle(leaves.one);
  while (leaves.answers.length === 0) await new Promise(setImmediate);
  leaves.answers.shift()?.();
  const memory = await settled;
  present.drop(leaves.one);
  await present.close(leaves.one, memory);
  before?.();
  await persisted;
  const { volumes } = state.memory;
  t.match(volumes['volume1'], { samples: 'clean' });
  t.match(volumes['volume0'], { samples: '' });
  t.same(present.all, [stays.one]);
});
