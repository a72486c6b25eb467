/**
 * Runs seeded histories of the session machines: `node dist/test/sim/main.js --seed N --seeds COUNT [--seconds S] [--json]`.
 * The first line of a failure names the seed; the last line is a summary.
 */
import { parseArgs } from 'node:util';
import { simulate } from './simulation.js';
const { values } = parseArgs({
    options: {
        seed: { type: 'string', default: '1' },
        seeds: { type: 'string', default: '1000' },
        seconds: { type: 'string', default: '0' },
        json: { type: 'boolean', default: false },
    },
});
const summary = simulate({
    seed: Number(values.seed),
    seeds: Number(values.seeds),
    secondsMax: Number(values.seconds),
    nowMs: () => performance.now(),
    onFailure: (seed, error) => console.error(`seed ${seed}: ${error.message}\n${error.stack ?? ''}`),
});
if (values.json) {
    console.log(JSON.stringify(summary));
}
else {
    for (const [kind, count] of Object.entries(summary.counts))
        console.log(`${kind.padEnd(20)} ${count}`);
    console.log(JSON.stringify({ seeds: summary.seeds, failed: summary.failed, points: summary.points }));
}
process.exitCode = summary.failed.length === 0 ? 0 : 1;
//# sourceMappingURL=main.js.map