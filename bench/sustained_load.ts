/**
 * A load on a protected volume that the replica keeps up with. Where the host writes faster than that, the load is held up
 * whenever the replica is too far behind, as the ring would fill otherwise and flatter what is measured; only what the receiver
 * has acknowledged as durable counts, and the time until it has counts too.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { GroupStatus } from '../proto/control.js';
import type { Site } from '../test/scenario/site.js';
import { cpuSeconds } from './cpu_time.js';
import { Fio, type Figures, type Load, type Target } from './fio.js';
import { watching } from './group_watch.js';

/** Captured and not durable: held up at the one, let go on at the other. */
const BEHIND_BYTES_MAX = 48 << 20;
const BEHIND_BYTES_AGAIN = 24 << 20;
/** A look costs the agent half a millisecond of what is measured. */
const LOOK_MS = 40;
const LAG_P99_MS_MAX = 1_000;
const DURABLE_SECONDS_MAX = 1;
const WAIT_SECONDS_MAX = 120;

export interface Sustained {
  figures: Figures;
  /** From the first request until everything is durable at the receiver. */
  seconds: number;
  /** CPU time of agent and receiver together. */
  cpuSeconds: number;
  lagP99Ms: number;
  broken: string[];
}

/** `counts`: 'done' is for what fits into the ring, and for reads: nobody waits for the replica. */
export async function onProtected(
  site: Site,
  target: Target,
  load: Load,
  counts: 'durable' | 'done' = 'durable',
): Promise<Sustained> {
  const isBurst = counts === 'done';
  const pids = [site.agent.pid, site.receiver.pid];
  return watching(site, async (status) => {
    const before = await status();
    const cpuBefore = await cpuSeconds(pids);
    const run = Fio.start(target, load);
    const figures = isBurst ? await run.figures() : await heldUp(run, status);
    const { seconds, broken } = await becomesDurable(status, before.generation, isBurst);
    const lagP99Ms = Number((await status()).rpoLagP99Ns) / 1e6;
    if (!isBurst && lagP99Ms > LAG_P99_MS_MAX) broken.push(`lag p99 ${lagP99Ms.toFixed(0)} ms`);
    return {
      ...{ figures, lagP99Ms, broken },
      seconds: figures.seconds + seconds,
      cpuSeconds: (await cpuSeconds(pids)) - cpuBefore,
    };
  });
}

async function heldUp(run: Fio, status: () => Promise<GroupStatus>): Promise<Figures> {
  let hasEnded = false;
  let isHeld = false;
  const figures = run.figures().finally(() => (hasEnded = true));
  const look = async (): Promise<void> => {
    while (!hasEnded) {
      const behind = Number((await status()).ringUsedBytes);
      if (!isHeld && behind > BEHIND_BYTES_MAX) run.hold();
      if (isHeld && behind <= BEHIND_BYTES_AGAIN) run.goOn();
      isHeld = isHeld ? behind > BEHIND_BYTES_AGAIN : behind > BEHIND_BYTES_MAX;
      await sleep(isHeld ? LOOK_MS / 4 : LOOK_MS);
    }
  };
  try {
    await Promise.all([figures, look()]);
  } catch (thrown) {
    // Held up, it would stay for ever.
    run.end();
    throw thrown;
  }
  return figures;
}

/** Waits until everything is durable at the receiver; tells what keeps the run from counting. */
async function becomesDurable(
  status: () => Promise<GroupStatus>,
  generation: bigint,
  isBurst: boolean,
): Promise<{ seconds: number; broken: string[] }> {
  const end = performance.now();
  for (;;) {
    const group = await status();
    const seconds = (performance.now() - end) / 1000;
    if (group.generation !== generation || group.state !== 'protected') {
      return { seconds, broken: [`the group is ${group.state} in generation ${group.generation}`] };
    }
    if (group.durableLsn === group.capturedLsn) {
      const isLate = !isBurst && seconds > DURABLE_SECONDS_MAX;
      return { seconds, broken: isLate ? [`durable ${seconds.toFixed(1)} s after the end`] : [] };
    }
    if (seconds > WAIT_SECONDS_MAX) return { seconds, broken: [`not durable after ${WAIT_SECONDS_MAX} s`] };
    await sleep(5);
  }
}
