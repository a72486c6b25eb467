import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import t from 'tap';
import { z } from 'zod';
import { AfterimageError } from '../../proto/errors.js';
import { absolutePath, byteSize, duration, formatAddress, loadConfig, logLevel, loopbackAddress, loopbackListenAddress, name, parseConfig, socketPath, } from '../../service/config.js';
const schema = z.strictObject({
    receiver: loopbackAddress,
    state_dir: absolutePath.prefault('/var/lib/x'),
    log_level: logLevel.prefault('info'),
    group: z
        .array(z.strictObject({
        name,
        ring_bytes: byteSize(1024n ** 2n, 64n * 1024n ** 3n).prefault('256MiB'),
        frame_linger: duration(0n, 1000000000n).prefault('3ms'),
        volume: z.array(z.strictObject({ name, backing: absolutePath, threads: z.int().min(1).max(64).default(4) })),
    }))
        .default([]),
});
function complaint(text) {
    try {
        parseConfig(text, 'a.toml', schema);
    }
    catch (thrown) {
        if (thrown instanceof AfterimageError)
            return thrown;
        throw thrown;
    }
    throw new Error('it was taken');
}
t.test('a configuration is taken, with its defaults', (t) => {
    const text = `
receiver = "localhost:7443"
[[group]]
name = "db"
ring_bytes = 1048576
[[group.volume]]
name = "data"
backing = "/dev/vg//data"
`;
    t.same(parseConfig(text, 'a.toml', schema), {
        receiver: { host: '127.0.0.1', port: 7443 },
        state_dir: '/var/lib/x',
        log_level: 'info',
        group: [
            {
                name: 'db',
                ring_bytes: 1048576n,
                frame_linger: 3000000n,
                volume: [{ name: 'data', backing: '/dev/vg/data', threads: 4 }],
            },
        ],
    });
    t.end();
});
t.test('each mistake is named with its line, its key and what was expected', (t) => {
    const mistakes = [
        [
            'a typo in a key',
            'reciever = "127.0.0.1:1"\nreceiver = "127.0.0.1:1"',
            'a.toml:1: reciever is not a setting; did you mean "receiver"?',
        ],
        [
            'a key of nothing like it',
            'receiver = "127.0.0.1:1"\nbanana = 1',
            'a.toml:2: banana is not a setting; known here: receiver, state_dir, log_level, group',
        ],
        [
            'a wrong type',
            'receiver = 7443',
            'a.toml:1: receiver: expected a loopback address with a port from 1 to 65535, such as "127.0.0.1:7443", not 7443',
        ],
        ['a missing key', '# nothing\n', /^a\.toml:1: receiver: missing; expected a loopback address .*$/],
        [
            'a near miss in a value',
            'receiver = "127.0.0.1:1"\nlog_level = "wran"',
            /^a\.toml:2: log_level: expected one of .*, not "wran"; did you mean "warn"\?$/,
        ],
        [
            'a port that cannot be',
            'receiver = "127.0.0.1:0"',
            /^a\.toml:1: receiver: expected a loopback address .*, not "127.0.0.1:0"$/,
        ],
        [
            'in the second volume of the second group, behind strings that look like tables',
            `receiver = "127.0.0.1:1"
[[group]]
name = "a" # [[group]]
volume = []
[[group]]
name = """
[[group]]"""
[[group.volume]]
name = 'one'
backing = '/x'
[[group.volume]]
name = "two"
backing = "relative"
`,
            'a.toml:6: group[2].name: expected 1 to 64 letters, digits, ".", "_" or "-", beginning with a letter, a digit or "_", not "[[group]]"\n' +
                'a.toml:13: group[2].volume[2].backing: expected an absolute path, not "relative"',
        ],
        [
            'a missing key in a table of an array: the line of the table',
            'receiver = "127.0.0.1:1"\n[[group]]\nname = "a"\n[[group.volume]]\nname = "v"\nbacking = "/x"\n\n[[group.volume]]\nname = "w"',
            'a.toml:8: group[1].volume[2].backing: missing; expected a string',
        ],
        [
            'in an inline table over several lines',
            'receiver = "127.0.0.1:1"\ngroup = [\n  { name = "a", volume = [\n    { name = "v", backing = "/x", threds = 2 } ] } ]',
            'a.toml:4: group[1].volume[1].threds is not a setting; did you mean "threads"?',
        ],
        [
            'a table where a value belongs',
            '[receiver]\nhost = "::1"',
            'a.toml:1: receiver: expected a loopback address with a port from 1 to 65535, such as "127.0.0.1:7443", not a table',
        ],
        [
            'one table where several may be',
            'receiver = "127.0.0.1:1"\n[group]\nname = "a"',
            'a.toml:2: group: expected an array, not a table',
        ],
        [
            'the plural',
            'receiver = "127.0.0.1:1"\n[[groups]]\nname = "a"',
            'a.toml:2: groups is not a setting; did you mean "group"?',
        ],
        [
            'a fraction',
            'receiver = "127.0.0.1:1"\n[[group]]\nname = "a"\nvolume = [{ name = "v", backing = "/x", threads = 1.5 }]',
            'a.toml:4: group[1].volume[1].threads: expected an integer, not 1.5',
        ],
        [
            'out of range',
            'receiver = "127.0.0.1:1"\n[[group]]\nname = "a"\nvolume = []\nring_bytes = "1KiB"',
            'a.toml:5: group[1].ring_bytes: expected a size from 1MiB to 64GiB, such as 67108864 or "64MiB", not "1KiB"',
        ],
    ];
    for (const [situation, text, message] of mistakes) {
        t.match(complaint(text), { code: 'CONFIG_INVALID', message }, situation);
    }
    t.end();
});
t.test('a syntax error is named with its line and column', (t) => {
    t.match(complaint('receiver = "127.0.0.1:1"\nlog_level = info'), {
        code: 'CONFIG_INVALID',
        message: /^a\.toml:2:\d+: .+$/,
    });
    t.match(complaint('receiver = 1\nreceiver = 2'), { code: 'CONFIG_INVALID', message: /^a\.toml:2:/ });
    t.match(complaint('__proto__ = 1'), { code: 'CONFIG_INVALID', message: /^a\.toml:1:/ });
    t.end();
});
t.test('an address that is not loopback has a code of its own', (t) => {
    for (const address of [
        '10.0.0.1:7443',
        '0.0.0.0:7443',
        'example.org:7443',
        '[::]:7443',
        '[fe80::1]:1',
        '128.0.0.1:1',
    ]) {
        t.match(complaint(`receiver = "${address}"`), {
            code: 'ADDRESS_NOT_LOOPBACK',
            message: /^a\.toml:1: receiver/,
        });
    }
    t.end();
});
t.test('a file with very many mistakes lists the first ten', (t) => {
    const text = Array.from({ length: 25 }, (_, index) => `zzzzzz${index} = 1`).join('\n');
    const lines = complaint(text).message.split('\n');
    t.equal(lines.length, 11);
    t.equal(lines.at(-1), 'and 16 more');
    t.end();
});
t.test('sizes', (t) => {
    const size = byteSize(0n, 2n ** 62n);
    t.equal(size.parse('256MiB'), 268435456n);
    t.equal(size.parse('64 KiB'), 65536n);
    t.equal(size.parse('512B'), 512n);
    t.equal(size.parse('1TiB'), 2n ** 40n);
    t.equal(size.parse(4096), 4096n);
    t.equal(size.parse(2n ** 60n), 2n ** 60n);
    for (const bad of [
        '256MB',
        '1.5GiB',
        '-1MiB',
        'MiB',
        '',
        '4096',
        1.5,
        -1,
        NaN,
        2 ** 60,
        true,
        null,
        '9999999TiB',
        '1toString',
    ]) {
        t.notOk(size.safeParse(bad).success, `${String(bad)} is not a size`);
    }
    t.end();
});
t.test('durations', (t) => {
    const time = duration(0n, 10n ** 15n);
    t.equal(time.parse('3ms'), 3000000n);
    t.equal(time.parse('500us'), 500000n);
    t.equal(time.parse('5s'), 5000000000n);
    t.equal(time.parse('2m'), 120000000000n);
    t.equal(time.parse('1h'), 3600000000000n);
    for (const bad of ['3', 3, '3 days', '-1s', '1.5s', '', 'constructor', '999999h']) {
        t.notOk(time.safeParse(bad).success, `${bad} is not a duration`);
    }
    t.end();
});
t.test('loopback addresses', (t) => {
    t.same(loopbackAddress.parse('127.0.0.1:7443'), { host: '127.0.0.1', port: 7443 });
    t.same(loopbackAddress.parse('127.8.9.10:1'), { host: '127.8.9.10', port: 1 });
    t.same(loopbackAddress.parse('[::1]:7443'), { host: '::1', port: 7443 });
    t.same(loopbackListenAddress.parse('localhost:0'), { host: '127.0.0.1', port: 0 });
    t.equal(formatAddress({ host: '::1', port: 7443 }), '[::1]:7443');
    t.equal(formatAddress({ host: '127.0.0.1', port: 7443 }), '127.0.0.1:7443');
    for (const bad of [
        '127.0.0.1',
        ':7443',
        '127.0.0.1:65536',
        '127.0.0.1:-1',
        '::1:7443',
        '127.0.0.256:1',
        '127.1:1',
        '127.0.0.01:1',
        'unix:/x',
    ]) {
        t.notOk(loopbackAddress.safeParse(bad).success, `${bad} is not a loopback address`);
    }
    t.end();
});
t.test('names and paths', (t) => {
    for (const good of ['a', 'db-1', 'A.b_c', '_x', 'x'.repeat(64)])
        t.ok(name.safeParse(good).success, good);
    for (const bad of ['', '.', '..', '.a', '-a', 'a/b', 'a b', 'ä', 'x'.repeat(65), 'a\n']) {
        t.notOk(name.safeParse(bad).success, JSON.stringify(bad));
    }
    t.equal(absolutePath.parse('/a/../b//c'), '/b/c');
    t.notOk(absolutePath.safeParse('a/b').success);
    t.notOk(absolutePath.safeParse('/a\0b').success);
    t.ok(socketPath.safeParse(`/${'x'.repeat(106)}`).success);
    t.notOk(socketPath.safeParse(`/${'x'.repeat(107)}`).success);
    t.end();
});
t.test('files that cannot be read', async (t) => {
    const directory = await mkdtemp(path.join(os.tmpdir(), 'afterimage-config-'));
    t.teardown(() => rm(directory, { recursive: true, force: true }));
    const file = path.join(directory, 'a.toml');
    await t.rejects(loadConfig(file, schema), { code: 'CONFIG_MISSING', message: new RegExp(file) });
    await t.rejects(loadConfig(directory, schema), { code: 'CONFIG_INVALID' });
    await writeFile(file, 'receiver = "[::1]:7443"');
    t.match(await loadConfig(file, schema), { receiver: { host: '::1' } });
    await chmod(file, 0);
    if (process.getuid?.() !== 0)
        await t.rejects(loadConfig(file, schema), { code: 'PERMISSION_DENIED' });
});
//# sourceMappingURL=config.test.js.map