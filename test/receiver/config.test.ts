/** /etc/afterimage/receiver.toml: every key, the defaults, and what is refused. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { AfterimageError } from '../../proto/errors.js';
import { loadReceiverConfig, receiverConfigSchema, retentionOf } from '../../receiver/config.js';
import { parseConfig } from '../../service/config.js';

const samples = path.resolve('test/receiver/samples');
const SECOND_NS = 1_000_000_000n;
const HOUR_NS = 3600n * SECOND_NS;

t.test('a file that uses every key', async (t) => {
  const config = await loadReceiverConfig(path.join(samples, 'full.toml'));
  const all = {
    windowNs: 168n * HOUR_NS,
    floorNs: 12n * HOUR_NS,
    bytesMax: 200n << 30n,
    rollForwardRateMax: 128n << 20n,
  };
  t.strictSame(config, {
    store: '/srv/afterimage/store',
    listen: { host: '::', port: 7444 },
    listenPlain: { host: '127.0.0.1', port: 7445 },
    certificateLifetimeMs: 30 * 86_400_000,
    recoveryDirectory: '/srv/recoveries',
    runDirectory: '/run/afterimage-test',
    control: '/run/afterimage-test/control.sock',
    metrics: { host: '::1', port: 9471 },
    logLevel: 'debug',
    scratchDirectory: '/srv/scratch',
    segmentBytes: 32n << 20n,
    retention: all,
    groups: [
      { name: 'shop', retention: { ...all, windowNs: 24n * HOUR_NS, floorNs: HOUR_NS / 2n } },
      { name: 'archive', retention: { ...all, bytesMax: 2n << 40n, rollForwardRateMax: 1n << 30n } },
      { name: 'plain', retention: all },
    ],
    scrub: { everyNs: 30n * 24n * HOUR_NS, rateMax: 16n << 20n },
  });
  t.equal(retentionOf(config, 'shop').windowNs, 24n * HOUR_NS);
  t.strictSame(retentionOf(config, 'another'), all);
});

t.test('an empty file: three days, four hours of them whatever happens, as many bytes as there are', (t) => {
  const config = parseConfig('', 'empty', receiverConfigSchema);
  t.strictSame(config.retention, {
    windowNs: 72n * HOUR_NS,
    floorNs: 4n * HOUR_NS,
    bytesMax: null,
    rollForwardRateMax: 64n << 20n,
  });
  t.strictSame(config.groups, []);
  t.strictSame(config.scrub, { everyNs: 168n * HOUR_NS, rateMax: 32n << 20n });
  const unscrubbed = parseConfig('[scrub]\nenabled = false', 'unscrubbed', receiverConfigSchema);
  t.equal(unscrubbed.scrub.everyNs, null);
  t.end();
});

const invalid = readdirSync(samples).filter((file) => file.startsWith('invalid-'));
t.ok(invalid.length >= 10, 'the invalid samples are there');
for (const file of invalid) {
  t.test(`${file} is refused with code and line`, (t) => {
    const text = readFileSync(path.join(samples, file), 'utf8');
    const [, code, line] = /^# expect: (\w+) line (\d+)/.exec(text) ?? [];
    try {
      parseConfig(text, file, receiverConfigSchema);
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
