import { readdir } from 'node:fs/promises';
import path from 'node:path';
import t from 'tap';
import type { BlockDevice } from '../../native/index.js';
import { AfterimageError } from '../../proto/errors.js';
import { serveDevices, type ServingNative } from '../../receiver/serving.js';

const device = { size: 4096n, blockSize: 512, readOnly: true } as BlockDevice;

t.test('without root a device export says why, and leaves nothing behind', async (t) => {
  // The mount point that was made before hid the reason behind ENOTEMPTY, and stayed.
  const runDir = t.testdir();
  const refused = () => Promise.reject(new AfterimageError('FUSE_UNAVAILABLE', 'mount: not permitted'));
  const native = { startFuseServer: refused } as unknown as ServingNative;
  const serving = serveDevices(native, path.join(runDir, 'export-1'), [{ name: 'data', device }]);
  await t.rejects(serving, { code: 'FUSE_UNAVAILABLE' });
  t.same(await readdir(runDir), []);
});
