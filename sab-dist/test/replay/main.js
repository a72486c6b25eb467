import { once } from 'node:events';
import { parseArgs } from 'node:util';
import { Contradiction, replayVolume, verifyRuns } from './replay.js';
const USAGE = `usage: main.js DIRECTORY VOLUME BYTES LSN [BASE_LSN] > image
       main.js --verify-runs DIRECTORY
`;
/** Exit status: 0 done and equal, 1 a contradiction or differences, 2 wrong arguments. */
async function main() {
    const { values, positionals } = parseArgs({
        allowPositionals: true,
        options: { 'verify-runs': { type: 'boolean', default: false } },
    });
    const [directory, ...numbers] = positionals;
    const areNumbers = numbers.every((number) => /^\d+$/.test(number));
    const isComplete = values['verify-runs'] ? numbers.length === 0 : [3, 4].includes(numbers.length);
    if (directory === undefined || !areNumbers || !isComplete) {
        process.stderr.write(USAGE);
        return 2;
    }
    if (values['verify-runs']) {
        const differences = await verifyRuns(directory);
        for (const difference of differences)
            process.stdout.write(`${difference}\n`);
        return differences.length === 0 ? 0 : 1;
    }
    const [volume = '', bytes = '', lsn = '', baseLsn = '0'] = numbers;
    const content = await replayVolume({
        directory,
        volume: Number(volume),
        bytes: Number(bytes),
        lsn: BigInt(lsn),
        baseLsn: BigInt(baseLsn),
    });
    if (!process.stdout.write(content))
        await once(process.stdout, 'drain');
    return 0;
}
try {
    process.exitCode = await main();
}
catch (error) {
    if (!(error instanceof Contradiction))
        throw error;
    process.stderr.write(`${error.message}\n`);
    process.exitCode = 1;
}
//# sourceMappingURL=main.js.map