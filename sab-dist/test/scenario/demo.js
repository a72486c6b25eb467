/**
 * `npm run demo`: the main job, end to end, with nothing faked. A 1 GiB volume with ext4 and PostgreSQL on it is
 * protected, destroyed while it is in use, and rewound to the last write before the disaster. Progress on stderr; on
 * stdout a summary and, as its last line, JSON with the same figures.
 */
import { mkdir, readFile, stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { formatTime } from '../../proto/time.js';
import { command } from './command.js';
import { acknowledgedBy, Cluster, rowOf } from './postgres.js';
import { Scratch } from './scratch.js';
import { afterimage, Site } from './site.js';
const GROUP = 'shop';
const VOLUME = 'data';
const VOLUME_BYTES = 1 << 30;
const PGBENCH_SCALE = 5;
const CLIENTS = 4;
const LOAD_SECONDS = 40;
const CALM_SECONDS = 12;
const NS_PER_MS = 1000000n;
const begun = Date.now();
function step(text) {
    process.stderr.write(`[${((Date.now() - begun) / 1000).toFixed(1).padStart(6)} s] ${text}\n`);
}
async function demo(scratch, interrupted) {
    const check = () => interrupted.throwIfAborted();
    step('making a 1 GiB volume with ext4');
    const backing = scratch.path('volume.img');
    await command('truncate', ['-s', String(VOLUME_BYTES), backing]);
    await command('mkfs.ext4', ['-q', '-F', backing]);
    step('starting a receiver and an agent');
    const site = await Site.create(scratch, {
        group: GROUP,
        volumes: [{ name: VOLUME, backing, attach: 'loop' }],
    });
    await site.start();
    const device = (await site.agentGroup()).volumes[0]?.device;
    if (device === undefined)
        throw new Error('the agent names no device');
    step(`the volume is ${device}; initial sync runs in the background`);
    const mount = scratch.path('mnt');
    await mkdir(mount);
    await command('mount', [device, mount]);
    scratch.defer('mount', () => command('umount', [mount]));
    check();
    step('PostgreSQL on it: initdb, pgbench tables');
    const production = await Cluster.at(`${mount}/pg`, scratch.path('pg-production'));
    await production.initialize();
    await production.start();
    scratch.defer('PostgreSQL', () => production.stop().catch(() => undefined));
    await production.prepare(PGBENCH_SCALE);
    await site.settled();
    check();
    step(`pgbench with ${CLIENTS} clients`);
    const load = await production.load(scratch.path('load'), CLIENTS, LOAD_SECONDS, PGBENCH_SCALE);
    scratch.defer('pgbench', () => load.finish(true));
    await sleep(3000, undefined, { signal: interrupted });
    const checkpoint = await site.ask('checkpoint', 'create', GROUP, 'before-upgrade');
    step(`checkpoint before-upgrade at lsn:${checkpoint.lsn}`);
    await sleep(CALM_SECONDS * 1000, undefined, { signal: interrupted });
    const lag = await site.agentGroup();
    step('disaster: the files of the running database are overwritten');
    const version = await readFile(`${mount}/pg/PG_VERSION`);
    const beginNs = BigInt(Date.now()) * NS_PER_MS;
    await disaster(`${mount}/pg`);
    const endNs = BigInt(Date.now() + 1) * NS_PER_MS;
    await sleep(2000, undefined, { signal: interrupted });
    const logged = await load.finish();
    await production.stop().catch(() => undefined);
    check();
    step('finding the last write before it');
    const afterwards = await site.settled();
    const isIntact = await prober(site, scratch, version);
    const last = await lastGood(site, isIntact, BigInt(checkpoint.lsn), BigInt(afterwards.durableLsn), interrupted);
    step(`the last intact point is lsn:${last.lsn}, ${formatTime(BigInt(last.timeNs))}`);
    // The same host's clock: the write after it must have been the disaster's own.
    const first = await site.ask('timeline', GROUP, '--at', `lsn:${BigInt(last.lsn) + 1n}`);
    const firstNs = BigInt(first.timeNs);
    if (firstNs < beginNs || firstNs > endNs || BigInt(last.timeNs) > firstNs) {
        const when = `${formatTime(beginNs)} to ${formatTime(endNs)}`;
        throw new Error(`the first write that did harm is of ${formatTime(BigInt(first.timeNs))}, the disaster was from ${when}`);
    }
    const intoDisasterMs = Number(firstNs - beginNs) / 1e6;
    step(`the write after it did the harm, ${intoDisasterMs.toFixed(1)} ms into the disaster`);
    step('opening it without copying, and starting a second PostgreSQL on it');
    const point = `lsn:${last.lsn}`;
    const opened = await site.ask('export', GROUP, '--at', point, '--writable', '--device');
    scratch.defer('export', () => closeExport(site, opened.id));
    const rewound = scratch.path('rewound');
    await mkdir(rewound);
    const exported = opened.volumes[0];
    if (exported === undefined)
        throw new Error('the export has no volume');
    await command('mount', [exported.device, rewound]);
    scratch.defer('mount of the export', () => command('umount', [rewound]));
    const recovered = await Cluster.at(`${rewound}/pg`, scratch.path('pg-recovered'));
    await recovered.unlock();
    await recovered.start();
    scratch.defer('second PostgreSQL', () => recovered.stop().catch(() => undefined));
    const kept = await checkLedger(recovered, logged, BigInt(last.timeNs));
    step(`${kept.expected} transactions were committed before that instant, ${kept.missing.length} of them are missing`);
    if (kept.missing.length > 0 || kept.expected === 0) {
        throw new Error(`committed transactions are missing: ${kept.missing.slice(0, 10).join(', ')}`);
    }
    check();
    step('recovering the same point to a file');
    const file = scratch.path('recovered.img');
    const recoverBegun = Date.now();
    await afterimage([
        'recover',
        `${GROUP}/${VOLUME}`,
        '--at',
        point,
        '--to',
        file,
        '--control',
        site.receiverControl,
    ]);
    const recoverSeconds = (Date.now() - recoverBegun) / 1000;
    const plain = await site.ask('export', GROUP, '--at', point);
    const uri = plain.volumes[0]?.uri;
    if (uri === undefined)
        throw new Error('the export has no address');
    await command('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', uri, file]);
    await closeExport(site, plain.id);
    step('qemu-img compare: export and recovered file are identical');
    const receiver = await site.receiverGroup();
    const figures = {
        writes: afterwards.records,
        writtenBytes: afterwards.capturedBytes,
        sentBytes: afterwards.shippedBytes,
        journalBytes: receiver.journalBytes,
        rpoLagP50Ms: Number(lag.rpoLagP50Ns) / 1e6,
        rpoLagP99Ms: Number(lag.rpoLagP99Ns) / 1e6,
        exportOpenMs: opened.openedInUs / 1000,
        exportOpenAgainMs: plain.openedInUs / 1000,
        firstHarmAfterMs: intoDisasterMs,
        disasterMs: Number(endNs - beginNs) / 1e6,
        recoverSeconds,
        transactionsKept: kept.expected,
        transactionsMissing: kept.missing.length,
        recoveredFileBytes: (await stat(file)).size,
        seconds: (Date.now() - begun) / 1000,
    };
    const mib = (bytes) => `${(bytes / 1048576).toFixed(1)} MiB`;
    console.log(`
  writes captured          ${figures.writes}
  bytes written            ${mib(figures.writtenBytes)}
  bytes sent               ${mib(figures.sentBytes)}
  bytes in the journal     ${mib(figures.journalBytes)}
  RPO lag p50 / p99        ${figures.rpoLagP50Ms.toFixed(1)} ms / ${figures.rpoLagP99Ms.toFixed(1)} ms
  time to open the export  ${figures.exportOpenMs.toFixed(1)} ms writable, as a device; ${figures.exportOpenAgainMs.toFixed(1)} ms read-only, over NBD
  time to recover (1 GiB)  ${figures.recoverSeconds.toFixed(1)} s
  transactions             ${figures.transactionsKept} committed before the disaster, ${figures.transactionsMissing} missing
`);
    await scratch.clean();
    console.log(JSON.stringify({ demo: 'ok', ...figures }));
}
/** Overwrites what PostgreSQL needs most, beginning with the file that it never writes again. */
async function disaster(data) {
    const tables = (await command('find', [`${data}/base`, `${data}/pg_wal`, '-type', 'f', '-size', '+64k']))
        .stdout;
    for (const file of [`${data}/PG_VERSION`, ...tables.trim().split('\n'), `${data}/global/pg_control`]) {
        const { size } = await stat(file);
        await command('dd', [
            'if=/dev/urandom',
            `of=${file}`,
            'bs=64k',
            `count=${Math.ceil(size / 65536)}`,
            'conv=notrunc,fsync',
        ]);
    }
}
/** Opens a point, mounts it and looks whether the database still has its PG_VERSION. */
async function prober(site, scratch, version) {
    const mount = scratch.path('probe');
    await mkdir(mount);
    return async (lsn) => {
        const probe = await site.ask('export', GROUP, '--at', `lsn:${lsn}`, '--writable', '--device');
        try {
            await command('mount', [probe.volumes[0]?.device ?? '', mount]);
            try {
                return (await readFile(`${mount}/pg/PG_VERSION`)).equals(version);
            }
            finally {
                await command('umount', [mount]);
            }
        }
        finally {
            await closeExport(site, probe.id);
        }
    };
}
/** The highest intact LSN of [good, bad], by looking at points in between. It and the next are looked into again. */
async function lastGood(site, isIntact, good, bad, interrupted) {
    let probes = 0;
    const expect = async (lsn, expected) => {
        interrupted.throwIfAborted();
        probes += 1;
        if ((await isIntact(lsn)) !== expected) {
            throw new Error(`at lsn:${lsn} the database ${expected ? 'is not intact' : 'is intact'}, unexpectedly`);
        }
    };
    await expect(good, true);
    await expect(bad, false);
    let [low, high] = [good, bad];
    while (high - low > 1n) {
        interrupted.throwIfAborted();
        const middle = (low + high) / 2n;
        probes += 1;
        if (await isIntact(middle))
            low = middle;
        else
            high = middle;
    }
    await expect(low, true);
    await expect(low + 1n, false);
    step(`${probes} points were opened and looked into`);
    return site.ask('timeline', GROUP, '--at', `lsn:${low}`);
}
async function closeExport(site, id) {
    await site.ask('export', 'close', id);
}
async function checkLedger(cluster, logged, timeNs) {
    const rows = await cluster.ledger();
    const expected = acknowledgedBy(logged, rows).filter((commit) => commit.timeNs <= timeNs);
    const missing = expected.filter(({ client, sequence }) => !rows.has(rowOf(client, sequence)));
    const early = (commit) => `${rowOf(commit.client, commit.sequence)} ${(timeNs - commit.timeNs) / 1000n} µs before`;
    return { expected: expected.length, missing: missing.map(early) };
}
function tell(error) {
    process.stderr.write(`demo: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
}
const interrupt = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM']) {
    process.on(signal, () => {
        if (!interrupt.signal.aborted)
            step(`${signal}: stopping what was started`);
        interrupt.abort(new Error(`interrupted by ${signal}`));
    });
}
const scratch = await Scratch.create('demo');
try {
    await demo(scratch, interrupt.signal);
}
catch (error) {
    tell(error);
    let outcome = interrupt.signal.aborted ? 'interrupted' : 'failed';
    await scratch.clean().catch((left) => {
        outcome = 'failed';
        if (left !== error)
            tell(left);
    });
    process.exitCode = outcome === 'interrupted' ? 130 : 1;
    console.log(JSON.stringify({ demo: outcome }));
}
//# sourceMappingURL=demo.js.map