import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { agentConfig, loadAgentConfig } from '../../agent/config.js';
import { AfterimageError } from '../../proto/errors.js';
import { parseConfig } from '../../service/config.js';

const samples = path.resolve('test/agent/samples');

t.test('a file that uses every key', async (t) => {
  const config = await loadAgentConfig(path.join(samples, 'full.toml'));
  t.strictSame(config, {
    receiver: { joined: { host: 'backup.example.org', port: 7443 } },
    identityFile: '/srv/afterimage/state/identity.json',
    stateDir: '/srv/afterimage/state',
    runDir: '/run/afterimage-test',
    control: '/run/afterimage-test/control.sock',
    metrics: { host: '127.0.0.1', port: 9470 },
    logLevel: 'debug',
    groups: [
      {
        name: 'db',
        ringBytes: 512n << 20n,
        lingerUs: 5000,
        unmarkAfterMs: 500,
        spool: { directory: '/srv/spool', bytesMax: 10n << 30n },
        resyncRateMax: 100n << 20n,
        volumes: [
          {
            ...{ name: 'data', backing: '/dev/vg0/data', mapped: null, cache: 'direct' },
            attach: { kind: 'loop', threads: 8 },
          },
          {
            name: 'wal',
            backing: '/srv/images/wal.img',
            mapped: null,
            cache: 'buffered',
            attach: { kind: 'socket', address: { unix: '/run/afterimage-test/wal.sock' } },
          },
          {
            ...{ name: 'log', backing: '/dev/vg0/log', mapped: null, cache: 'buffered' },
            attach: { kind: 'nbd' },
          },
        ],
      },
      {
        name: 'live',
        ringBytes: 256n << 20n,
        lingerUs: 3000,
        unmarkAfterMs: 60_000,
        spool: null,
        resyncRateMax: null,
        volumes: [
          {
            name: 'root',
            backing: '/dev/mapper/vg0-live-afterimage',
            mapped: '/dev/mapper/vg0-live',
            cache: 'buffered',
            attach: { kind: 'nbd' },
          },
        ],
      },
      {
        name: 'vm',
        ringBytes: 256n << 20n,
        lingerUs: 3000,
        unmarkAfterMs: 60_000,
        spool: null,
        resyncRateMax: null,
        volumes: [
          {
            name: 'disk',
            backing: '/srv/images/disk.img',
            mapped: null,
            cache: 'buffered',
            attach: { kind: 'socket', address: { tcp: { host: '127.0.0.1', port: 10809 } } },
          },
        ],
      },
    ],
  });
});

t.test('a file that leaves everything to the defaults', async (t) => {
  const config = await loadAgentConfig(path.join(samples, 'minimal.toml'));
  t.equal(config.control, '/run/afterimage/agent.sock');
  t.strictSame(config.receiver, { joined: null }, 'where this host has joined it');
  t.strictSame(
    config.groups[0]?.volumes.map(({ attach }) => attach),
    [
      { kind: 'loop', threads: 4 },
      { kind: 'socket', address: { unix: '/run/afterimage/db-wal.sock' } },
    ],
  );
});

const invalid = readdirSync(samples).filter((file) => file.startsWith('invalid-'));
t.ok(invalid.length > 10, 'the invalid samples are there');
for (const file of invalid) {
  t.test(`${file} is refused with code and line`, (t) => {
    const text = readFileSync(path.join(samples, file), 'utf8');
    const [, code, line] = /^# expect: (\w+) line (\d+)/.exec(text) ?? [];
    try {
      parseConfig(text, file, agentConfig);
      t.fail('it was accepted');
    } catch (thrown) {
      t.ok(thrown instanceof AfterimageError);
      const error = thrown as AfterimageError;
      t.equal(error.code, code);
      t.match(error.message, new RegExp(`^${file}:${line}[:]`), error.message);
    }
    t.end();
  });
}
