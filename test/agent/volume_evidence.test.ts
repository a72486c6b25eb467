/** What the next start after a clean stop makes of a backing that others may have written to, or that is another device. */
import { execFile } from 'node:child_process';
import { statSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { backingFingerprint, KERNEL } from '../../agent/backing_fingerprint.js';
import type { VolumeConfig } from '../../agent/config.js';
import { ProtectedVolume } from '../../agent/volume.js';
import * as native from '../../native/index.js';
import { deviceNumber } from '../../service/device_number.js';
import { isRoot, skipUnless } from '../prerequisite.js';

const run = promisify(execFile);
const SIZE = 1n << 20n;

t.test('another device of the same size is compared', { skip: skipUnless(isRoot, 'root') }, async (t) => {
  const file = path.join(t.testdir({ 'a.img': Buffer.alloc(Number(SIZE)) }), 'a.img');
  const { stdout } = await run('losetup', ['--find', '--show', file]);
  const backing = stdout.trim();
  t.teardown(() => run('losetup', ['-d', backing]));
  const number = deviceNumber(statSync(backing, { bigint: true }).rdev);
  const attributes = { wwid: 'a', diskseq: '7', stat: Array.from({ length: 17 }, () => '0').join(' ') };
  const { blockDevices } = KERNEL;
  t.teardown(() => (KERNEL.blockDevices = blockDevices));
  KERNEL.blockDevices = t.testdir({ [number]: attributes, state: {} });
  const stateDir = path.join(KERNEL.blockDevices, 'state');
  const config: VolumeConfig = {
    ...{ name: 'data', backing, mapped: null, cache: 'buffered' },
    attach: { kind: 'loop', threads: 1 },
  };
  const fingerprint = await backingFingerprint(backing);
  const evidenceWhere = async (identity: string): Promise<string> => {
    const memory = {
      ...{ number: 0, uuid: Buffer.alloc(16, 3), size: SIZE, backing, fingerprint, identity },
      ...{ samples: '', insertion: '' },
    };
    const volume = await ProtectedVolume.open(config, memory, memory, stateDir, native);
    await volume.close();
    return volume.evidence;
  };
  t.equal(await evidenceWhere('wwid a'), 'untouched');
  t.equal(await evidenceWhere(''), 'untouched', 'nobody knew its name');
  t.equal(await evidenceWhere('wwid b'), 'changed');
});
