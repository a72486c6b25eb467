/** fio, the load of every measurement: fixed seed, half-compressible data, figures from its own JSON. */
import { command } from '../test/scenario/command.js';
const SEED = 42;
export async function fio(target, load) {
    const args = [
        '--name=load',
        '--output-format=json',
        `--randseed=${SEED}`,
        '--randrepeat=1',
        '--norandommap',
    ];
    if ('uri' in target)
        args.push('--ioengine=nbd', `--uri=${target.uri}`);
    else
        args.push('--ioengine=libaio', '--direct=1', `--filename=${target.device}`);
    args.push(`--rw=${load.rw}`, `--bs=${load.blockBytes}`, `--iodepth=${load.depth}`, '--buffer_compress_percentage=50');
    if (load.seconds !== undefined)
        args.push('--time_based', `--runtime=${load.seconds}`);
    if (load.bytes !== undefined)
        args.push(`--io_size=${load.bytes}`);
    if (load.requests !== undefined)
        args.push(`--number_ios=${load.requests}`, `--io_size=${load.requests * load.blockBytes}`);
    if (load.rate !== undefined)
        args.push(`--rate_iops=${Math.floor(load.rate)}`);
    const { stdout } = await command('fio', args, { secondsMax: (load.seconds ?? 0) + 600 });
    // Some engines print a line of their own before the JSON.
    const report = JSON.parse(stdout.slice(stdout.indexOf('{')));
    const job = report.jobs[0];
    if (job === undefined)
        throw new Error('fio reported no job');
    const side = load.rw === 'randread' ? job.read : job.write;
    return {
        iops: side.iops,
        bytesPerSecond: side.bw_bytes,
        requests: side.total_ios,
        p99Us: (side.clat_ns.percentile?.['99.000000'] ?? 0) / 1000,
    };
}
//# sourceMappingURL=fio.js.map