/** Runs that other work on the machine did not disturb: the page cache is written back before, steal is watched. */
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { command } from '../test/scenario/command.js';
import type { Progress, Run, Sample } from './measurement.js';

const STEAL_MAX = 0.1;
const REPEATS_MAX = 3;
/** What the kernel may still have to write when a run begins. */
const DIRTY_BYTES_MAX = 4 << 20;
const WRITEBACK_SECONDS_MAX = 60;

/**
 * One counted run, begun when nothing is left of the run before it. Repeated when the hypervisor stole more than a tenth
 * of the CPU; one that stayed disturbed after some repeats says so in `broken`.
 */
export async function undisturbed(run: () => Promise<Run>, progress: Progress): Promise<Sample> {
  for (let repeat = 0; ; repeat += 1) {
    await writtenBack();
    const before = await cpuTimes();
    const sample = await run();
    const steal = stolen(before, await cpuTimes());
    if (steal <= STEAL_MAX) return { ...sample, steal };
    const reason = `${(steal * 100).toFixed(0)} % of the CPU was stolen`;
    if (repeat >= REPEATS_MAX) return { ...sample, broken: [...sample.broken, reason], steal };
    progress(`${reason}: repeating`);
  }
}

/** Waits until the page cache holds next to nothing that is not on disk: the next run would pay for it. */
export async function writtenBack(): Promise<void> {
  await command('sync', []);
  for (let waited = 0; waited < WRITEBACK_SECONDS_MAX; waited += 0.1) {
    const meminfo = await readFile('/proc/meminfo', 'utf8');
    const kib = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(meminfo)?.[1]);
    if ((kib('Dirty') + kib('Writeback')) * 1024 <= DIRTY_BYTES_MAX) return;
    await sleep(100);
  }
}

/** The first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal. */
async function cpuTimes(): Promise<number[]> {
  const line = (await readFile('/proc/stat', 'utf8')).split('\n', 1)[0] ?? '';
  return line.trim().split(/\s+/).slice(1, 9).map(Number);
}

function stolen(before: readonly number[], after: readonly number[]): number {
  const delta = after.map((value, i) => value - (before[i] ?? 0));
  const total = delta.reduce((sum, value) => sum + value, 0);
  return total > 0 ? (delta[7] ?? 0) / total : 0;
}
