/**
 * `npm run bench -- NAME… [--json] [--quick]`: each measurement beside its peer in the same run, alternating. Results
 * are printed, and kept in bench/results/.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import os from 'node:os';
import { command } from '../test/scenario/command.js';
import { FULL, judge, QUICK } from './measurement.js';
import { openPoint, openPointCold } from './points.js';
import { agentMemory, rpo, writeMeasurements } from './writes.js';
const measurements = [...writeMeasurements, rpo, openPoint, openPointCold, agentMemory];
/** What `--quick` runs when no name is given: one of each kind. */
const quickNames = ['nbd-randwrite-qd32', 'loop-burst', 'open-point', 'agent-memory'];
const options = process.argv.slice(2).filter((word) => word.startsWith('--'));
const names = process.argv.slice(2).filter((word) => !word.startsWith('--'));
const unknown = [
    ...options.filter((option) => option !== '--json' && option !== '--quick'),
    ...names.filter((name) => !measurements.some((measurement) => measurement.name === name)),
];
if (unknown.length > 0) {
    console.error(`bench: no such measurement or option: ${unknown.join(', ')}`);
    console.error(`measurements: ${measurements.map((measurement) => measurement.name).join(', ')}`);
    process.exitCode = 2;
}
else {
    await bench();
}
async function bench() {
    const json = options.includes('--json');
    const scale = options.includes('--quick') ? QUICK : FULL;
    const wanted = names.length > 0 ? names : scale.quick ? quickNames : measurements.map((measurement) => measurement.name);
    const reports = [];
    for (const measurement of measurements.filter(({ name }) => wanted.includes(name))) {
        const progress = (text) => void process.stderr.write(`${measurement.name}: ${text}\n`);
        const { ours, peer } = await measurement.run(scale, progress);
        const report = judge(measurement, ours, peer);
        reports.push(report);
        // Every single run is in the kept results only.
        if (json)
            console.log(JSON.stringify({ ...report, runs: undefined }));
    }
    const directory = new URL('../../bench/results/', import.meta.url);
    await mkdir(directory, { recursive: true });
    const file = new URL(`${new Date().toISOString().replaceAll(':', '-')}${scale.quick ? '-quick' : ''}.json`, directory);
    await writeFile(file, `${JSON.stringify({ machine: await machine(), scale, reports }, null, 2)}\n`);
    if (!json)
        print(reports);
    // A quick run shows that the harness works; its figures judge nothing.
    if (!scale.quick && reports.some((report) => report.holds === false))
        process.exitCode = 1;
}
function print(reports) {
    const number = (value) => value === null ? '–' : value >= 100 ? value.toFixed(0) : value.toFixed(2);
    const rows = reports.map((report) => [
        report.name,
        number(report.ours),
        number(report.peer),
        report.unit,
        number(report.ratio),
        `${number(report.spread[0])}…${number(report.spread[1])}`,
        report.bar === null ? 'report' : number(report.bar),
        report.holds === null ? '' : report.holds ? 'holds' : 'DOES NOT HOLD',
        report.broken.join('; '),
    ]);
    const table = [['name', 'ours', 'peer', 'unit', 'ratio', 'spread', 'bar', 'verdict', ''], ...rows];
    const widths = (table[0] ?? []).map((_, column) => Math.max(...table.map((row) => row[column]?.length ?? 0)));
    for (const row of table)
        console.log(row
            .map((cell, column) => cell.padEnd(widths[column] ?? 0))
            .join('  ')
            .trimEnd());
}
async function machine() {
    const version = async (program) => (await command(program, ['--version'])).stdout.split('\n', 1)[0] ?? '';
    const cpu = /model name\s*:\s*(.*)/.exec(await readFile('/proc/cpuinfo', 'utf8'))?.[1] ?? os.arch();
    return {
        cpu: `${os.cpus().length} × ${cpu}`,
        memory: `${Math.round(os.totalmem() / 2 ** 30)} GiB`,
        kernel: os.release(),
        node: process.version,
        fio: await version('fio'),
        nbdkit: await version('nbdkit'),
    };
}
//# sourceMappingURL=main.js.map