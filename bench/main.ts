/**
 * `npm run bench -- NAME… [--json] [--quick]`: each measurement beside its peer in the same run, by turns. Results are printed,
 * and kept in bench/results/.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import os from 'node:os';
import { command } from '../test/scenario/command.js';
import { sustainedMeasurements } from './bare_stream.js';
import { growthMeasurements } from './growth.js';
import { agentMemory } from './memory.js';
import { rpo, writeLatency } from './latency.js';
import { FULL, judge, QUICK, type Measurement, type Report } from './measurement.js';
import { pgbench } from './pgbench.js';
import { openPoint, openPointCold } from './points.js';
import { replicationMeasurements } from './replication.js';
import { spaceMeasurements } from './space.js';
import { initialSyncs, resyncScan } from './syncs.js';
import { table } from './table.js';
import { wan } from './wan.js';
import { writeMeasurements } from './writes.js';

const measurements: Measurement[] = [
  ...writeMeasurements,
  ...replicationMeasurements,
  pgbench,
  writeLatency,
  ...sustainedMeasurements,
  rpo,
  ...initialSyncs,
  resyncScan,
  wan,
  ...spaceMeasurements,
  ...growthMeasurements,
  openPoint,
  openPointCold,
  agentMemory,
];
/** What `--quick` runs when no name is given: one of each kind. */
const quickNames = [
  'nbd-randwrite-qd32',
  'loop-burst',
  'mirror-randwrite-qd32',
  'sustained/tls',
  'rpo',
  'resync-scan',
  'space/sequential',
  'growth/volumes-8',
  'open-point',
];

const options = process.argv.slice(2).filter((word) => word.startsWith('--'));
const names = process.argv.slice(2).filter((word) => !word.startsWith('--'));
/** NAME is also all of its variants, NAME/VARIANT. */
const isMeant = (name: string, wanted: string): boolean => name === wanted || name.startsWith(`${wanted}/`);
const unknown = [
  ...options.filter((option) => option !== '--json' && option !== '--quick'),
  ...names.filter((wanted) => !measurements.some(({ name }) => isMeant(name, wanted))),
];
if (unknown.length > 0) {
  console.error(`bench: no such measurement or option: ${unknown.join(', ')}`);
  console.error(`measurements: ${measurements.map((measurement) => measurement.name).join(', ')}`);
  process.exitCode = 2;
} else {
  await bench();
}

async function bench(): Promise<void> {
  const json = options.includes('--json');
  const scale = options.includes('--quick') ? QUICK : FULL;
  const isWanted = ({ name }: Measurement): boolean => {
    if (names.length > 0) return names.some((wanted) => isMeant(name, wanted));
    return !scale.quick || quickNames.includes(name);
  };
  const directory = new URL('../../bench/results/', import.meta.url);
  await mkdir(directory, { recursive: true });
  const began = new Date().toISOString().replaceAll(':', '-');
  const file = new URL(`${began}${scale.quick ? '-quick' : ''}.json`, directory);
  const about = { machine: await machine(), scale };
  const reports: Report[] = [];
  for (const measurement of measurements.filter(isWanted)) {
    const progress = (text: string): void => void process.stderr.write(`${measurement.name}: ${text}\n`);
    const report = judge(measurement, await measurement.run(scale, progress));
    reports.push(report);
    // Every single run is in the kept results only.
    if (json) console.log(JSON.stringify({ ...report, runs: undefined }));
    // After each: one that takes hours may be ended early.
    await writeFile(file, `${JSON.stringify({ ...about, reports }, null, 2)}\n`);
  }
  if (!json) console.log(table(reports));
  // A quick run shows that the harness works; its figures judge nothing.
  if (!scale.quick && reports.some((report) => report.holds === false)) process.exitCode = 1;
}

async function machine(): Promise<Record<string, string>> {
  const version = async (program: string): Promise<string> =>
    (await command(program, ['--version'])).stdout.split('\n', 1)[0] ?? '';
  const cpu = /model name\s*:\s*(.*)/.exec(await readFile('/proc/cpuinfo', 'utf8'))?.[1] ?? os.arch();
  return {
    cpu: `${os.cpus().length} × ${cpu}`,
    memory: `${Math.round(os.totalmem() / 2 ** 30)} GiB`,
    kernel: os.release(),
    node: process.version,
    fio: await version('fio'),
    nbdkit: await version('nbdkit'),
    qemu: await version('qemu-nbd'),
    libnbd: await version('nbdcopy'),
  };
}
