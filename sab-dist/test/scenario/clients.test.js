/** Other people's NBD clients against both ends: a protected volume, and an export of a point of it. */
import { open, readFile } from 'node:fs/promises';
import t from 'tap';
import { command } from './command.js';
import { socketSite } from './socket_site.js';
t.setTimeout(600_000);
const GROUP = 'clients';
const BYTES = 64 << 20;
t.test('a protected volume and an export serve nbdinfo, nbdcopy, qemu and fio', async (t) => {
    const { site, backing, ready } = await socketSite(t, 'clients', BYTES, { group: GROUP });
    const { scratch } = site;
    const socket = (ready.volumes[0]?.device ?? '').replace(/^unix:/, '');
    const uri = `nbd+unix:///disk?socket=${socket}`;
    const info = JSON.parse((await command('nbdinfo', ['--json', uri])).stdout);
    t.match(info.exports[0], {
        'export-name': 'disk',
        'export-size': BYTES,
        is_read_only: false,
        can_flush: true,
        can_fua: true,
        can_multi_conn: true,
        can_trim: true,
        can_zero: true,
    });
    t.equal((await command('nbdinfo', ['--list', '--json', uri])).status, 0, 'the server lists its exports');
    await command('qemu-io', [
        '-f',
        'raw',
        '-c',
        'write -P 0xa5 0 1M',
        '-c',
        'write -P 0x5a 3M 64k',
        '-c',
        'write -z 512k 64k',
        '-c',
        'discard 3M 4k',
        '-c',
        'flush',
        '-c',
        'read -P 0xa5 0 512k',
        '-c',
        'read -P 0 512k 64k',
        '-c',
        'read -P 0 3M 4k',
        uri,
    ]);
    /** Writes stamped blocks and reads them back; or only reads back, what was written with the same seed. */
    const verify = (target, how) => command('fio', [
        '--name=verify',
        '--ioengine=nbd',
        `--uri=${target}`,
        '--rw=randwrite',
        '--bsrange=512-256k',
        '--bs_unaligned=0',
        '--blockalign=512',
        '--iodepth=16',
        '--offset=8M',
        '--size=24M',
        '--verify=crc32c',
        '--verify_fatal=1',
        '--verify_state_save=0',
        '--randseed=7',
        how,
    ]);
    await verify(uri, '--do_verify=1');
    const pattern = scratch.path('pattern.img');
    await command('dd', ['if=/dev/urandom', `of=${pattern}`, 'bs=1M', 'count=8', 'status=none']);
    await command('truncate', ['-s', String(BYTES), pattern]);
    const protectedMap = await command('qemu-img', ['map', '--output=json', '-f', 'raw', uri]);
    t.ok(JSON.parse(protectedMap.stdout).length > 1, 'holes and data are told apart');
    const before = await site.settled();
    const beforeImage = scratch.path('before.img');
    await command('nbdcopy', [uri, beforeImage]);
    await command('nbdcopy', [pattern, uri]);
    await command('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', uri, pattern]);
    await site.settled();
    // The point before the copy, through every client, while the volume itself has moved on.
    const opened = await site.ask('export', GROUP, '--at', `lsn:${before.durableLsn}`);
    const point = opened.volumes[0]?.uri ?? '';
    const exported = JSON.parse((await command('nbdinfo', ['--json', point])).stdout);
    t.match(exported.exports[0], { 'export-size': BYTES, is_read_only: true, can_multi_conn: true });
    await command('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', point, beforeImage]);
    await command('qemu-io', [
        '-r',
        '-f',
        'raw',
        '-c',
        'read -P 0xa5 0 512k',
        '-c',
        'read -P 0x5a 3076k 60k',
        point,
    ]);
    const copy = scratch.path('copy.img');
    await command('nbdcopy', [point, copy]);
    t.ok((await readFile(copy)).equals(await readFile(beforeImage)), 'nbdcopy reads the point as it was');
    const map = JSON.parse((await command('qemu-img', ['map', '--output=json', '-f', 'raw', point])).stdout);
    t.ok(map.some((extent) => extent.zero), 'never written space of a point is reported as zero');
    await verify(point, '--verify_only');
    const refused = await command('qemu-io', ['-f', 'raw', '-c', 'write 0 4k', point], { accept: [1] });
    t.not(refused.status, 0, 'a read-only export refuses to be written');
    await site.ask('export', 'close', opened.id);
    // A writable one takes a full verification run, and is gone with its overlay.
    const writable = await site.ask('export', GROUP, '--at', `lsn:${before.durableLsn}`, '--writable');
    await verify(writable.volumes[0]?.uri ?? '', '--do_verify=1');
    await site.ask('export', 'close', writable.id);
    const again = await site.ask('export', GROUP, '--at', `lsn:${before.durableLsn}`, '--tcp', '127.0.0.1:0');
    t.match(again.volumes[0]?.uri, /^nbd:\/\/127\.0\.0\.1:\d+\//, 'an export over TCP names its port');
    await command('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', again.volumes[0]?.uri ?? '', beforeImage]);
    await site.ask('export', 'close', again.id);
    t.equal(await site.agent.stop(), 0);
    const file = await open(backing);
    t.equal((await file.stat()).size, BYTES);
    await file.close();
    await command('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', backing, pattern]);
});
//# sourceMappingURL=clients.test.js.map