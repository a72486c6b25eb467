/**
 * Runs inside of a virtual machine (survival.test.ts): the agent of a mounted volume dies again and again while fio writes
 * to the file system and reads back what it wrote. No I/O error, of a loop device one generation, and in the end the receiver
 * has what the backing has.
 *
 * `node survival.js loop|nbd [STRIKES]`; its last line is JSON.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { mkdir, readFile, realpath } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { command, ended } from '../../scenario/command.js';
import { Scratch } from '../../scenario/scratch.js';
import { Site } from '../../scenario/site.js';
const GROUP = 'vm';
const BYTES = 32 << 20;
/** A daemon was seen to take a minute for its start where the machine had much else to do. */
const PATIENCE_SECONDS = 240;
const POLL_MS = 20;
/** After a kill, the last requests that were answered have been counted. */
const SETTLE_MS = 500;
/** How many writes are to be served by a successor before it dies too. */
const WRITES_BETWEEN = 50;
const scratch = await Scratch.create('vm');
async function survive(attach, strikes) {
    const begunSeconds = os.uptime();
    for (const name of ['loop', 'fuse', 'nbd'])
        await command('modprobe', [name], { accept: [1] });
    const image = scratch.path('volume.img');
    await command('truncate', ['-s', String(BYTES), image]);
    // A disk of 4 KiB sectors, which the attached device must have too.
    const backing = attach === 'nbd' ? await diskOver(image, 4096) : image;
    await command('mkfs.ext4', ['-q', '-F', backing]);
    const volumes = [{ name: 'disk', backing, attach }];
    const site = await Site.create(scratch, { group: GROUP, volumes, ringBytes: '64MiB', supervised: true });
    await site.start(PATIENCE_SECONDS);
    const before = await site.settled(PATIENCE_SECONDS);
    const device = before.volumes[0]?.device ?? '';
    console.log(`${device} is protected, Linux ${os.release()}`);
    if (attach === 'nbd') {
        assert.equal(await realpath(`/dev/afterimage/${GROUP}/disk`), device, 'a stable link');
        const attribute = `/sys/block/${path.basename(device)}/queue/logical_block_size`;
        assert.equal((await readFile(attribute, 'utf8')).trim(), '4096');
    }
    const mount = scratch.path('mnt');
    await mkdir(mount);
    await command('mount', [device, mount]);
    scratch.defer('mount', () => command('umount', [mount], { accept: [32] }));
    const load = new Load(mount);
    const working = load.run();
    const pauses = [];
    for (let struck = 0; struck < strikes; struck += 1) {
        await served(device, WRITES_BETWEEN, load);
        pauses.push(await strike(site, device, load));
    }
    await served(device, WRITES_BETWEEN, load);
    if (attach === 'nbd')
        await startByHand(site, device, load);
    load.stop();
    await working;
    load.throwIfFailed();
    await command('umount', [mount]);
    assert.deepEqual(ioErrors(begunSeconds), [], 'the kernel saw no I/O error');
    const after = await site.settled(PATIENCE_SECONDS);
    // Which writes a killed agent had begun is known of loop devices only: others are compared.
    if (attach === 'loop') {
        assert.equal(after.generation, before.generation, 'the same stream went on: no gap, no resync');
        const { spans } = await site.ask('timeline', GROUP);
        const grades = spans.map(({ grade }) => grade).filter((grade) => grade !== 'syncing');
        assert.deepEqual(grades, ['ordered'], 'one ordered stretch');
    }
    const latest = await site.recovered('disk', 'latest');
    assert(latest.equals(await readFile(backing)), 'the latest point is what the backing holds');
    await command('e2fsck', ['-f', '-n', scratch.path('recovered-disk.img')]);
    assert.equal(await site.agent.stop(PATIENCE_SECONDS), 0);
    assert.equal((await readFile(`/sys/block/${path.basename(device)}/size`, 'utf8')).trim(), '0', 'detached');
    return {
        attach,
        kernel: os.release(),
        strikes,
        rounds: load.rounds,
        writes: load.writes,
        pausesMs: pauses,
    };
}
async function diskOver(file, blockSize) {
    const { stdout } = await command('losetup', ['--find', '--show', '--sector-size', String(blockSize), file]);
    const disk = stdout.trim();
    scratch.defer('disk', () => command('losetup', ['--detach', disk]));
    return disk;
}
/** Kills the agent that runs, and waits until another one serves; returns for how many milliseconds nobody did. */
async function strike(site, device, load) {
    const pid = site.agent.supervisedPid();
    assert(pid !== null);
    process.kill(pid, 'SIGKILL');
    const begin = performance.now();
    await sleep(SETTLE_MS);
    await served(device, 1, load);
    const pauseMs = Math.round(performance.now() - begin);
    console.log(`killed ${pid}; served again after ${pauseMs} ms`);
    return pauseMs;
}
/** Nothing is left of an agent and of what was kept of it but the device, which the next one finds. */
async function startByHand(site, device, load) {
    const pid = site.agent.supervisedPid();
    await site.agent.kill();
    if (pid !== null)
        killIfThere(pid);
    const starting = site.agent.start(PATIENCE_SECONDS);
    await Promise.all([starting, served(device, WRITES_BETWEEN, load)]);
    console.log('killed for good; served again by one that was started by hand');
}
function killIfThere(pid) {
    try {
        process.kill(pid, 'SIGKILL');
    }
    catch (thrown) {
        assert.equal(thrown.code, 'ESRCH');
    }
}
/** Waits until the kernel has completed so many more writes of the device. */
async function served(device, writes, load) {
    const counted = await completedWrites(device);
    const deadline = performance.now() + PATIENCE_SECONDS * 1000;
    while ((await completedWrites(device)) < counted + writes) {
        load.throwIfFailed();
        assert(performance.now() < deadline, `${device} is not served`);
        await sleep(POLL_MS);
    }
}
/** Documentation/block/stat.rst: the fifth number. */
async function completedWrites(device) {
    const stat = await readFile(`/sys/block/${path.basename(device)}/stat`, 'utf8');
    return Number(stat.trim().split(/\s+/)[4]);
}
/**
 * What the kernel has said of errors since it was `after` seconds up. That a disk cannot write zeroes is none: they are
 * written in another way then.
 */
function ioErrors(after) {
    const lines = execFileSync('dmesg', { encoding: 'utf8' }).split('\n');
    const isError = (line) => /error/i.test(line) && !line.includes('operation not supported');
    return lines.filter((line) => isError(line) && Number(/^\[ *([\d.]+)\]/.exec(line)?.[1]) > after);
}
/** fio, again and again, on files of its own: random writes with fsync, then everything is read back. */
class Load {
    directory;
    rounds = 0;
    writes = 0;
    isStopped = false;
    failure = null;
    constructor(directory) {
        this.directory = directory;
    }
    /** Until stop() or a failure. */
    async run() {
        try {
            while (!this.isStopped)
                await this.round();
        }
        catch (thrown) {
            this.failure = thrown;
        }
    }
    stop() {
        this.isStopped = true;
    }
    throwIfFailed() {
        if (this.failure !== null)
            throw this.failure;
    }
    async round() {
        const file = path.join(this.directory, `round-${this.rounds % 2}`);
        const report = scratch.path('fio.json');
        const io = ['--rw=randwrite', '--bs=4k', '--size=4M', '--ioengine=libaio', '--iodepth=8', '--direct=1'];
        // No more than an agent under emulation ships: a full ring would be a gap.
        const pace = ['--fsync=64', '--rate_iops=300', `--randseed=${this.rounds}`];
        const verify = ['--verify=crc32c', '--do_verify=1', '--verify_fatal=1'];
        const output = ['--output-format=json', `--output=${report}`, '--eta=never'];
        const words = ['--name=vm', `--filename=${file}`, ...io, ...pace, ...verify, ...output];
        const fio = spawn('fio', words, { stdio: ['ignore', 'ignore', 'inherit'] });
        assert.equal(await ended(fio, 4 * PATIENCE_SECONDS), 0, 'fio read back what it had written');
        const { jobs } = JSON.parse(await readFile(report, 'utf8'));
        assert.equal(jobs[0]?.error, 0);
        this.rounds += 1;
        this.writes += jobs[0].write.total_ios;
    }
}
const [attach = 'loop', strikes = '6'] = process.argv.slice(2);
assert(attach === 'loop' || attach === 'nbd');
try {
    console.log(JSON.stringify(await survive(attach, Number(strikes))));
}
finally {
    await scratch.clean();
}
//# sourceMappingURL=survival.js.map