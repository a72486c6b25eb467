/** A disk that fails a sync while what it has long held is read. */
import { copyFile, readdir } from 'node:fs/promises';
import path from 'node:path';
import t from 'tap';
import * as native from '../../../native/index.js';
import { FaultDirectory } from '../../fault/fault_directory.js';
import { isRoot, skipUnless } from '../../prerequisite.js';
import { Scratch } from '../../scenario/scratch.js';
import { journalDirectory, synced } from '../synced_scene.js';
import { fill } from '../retention/scene.js';

// Torture found it: an index could not be synced, then the look at its segment failed likewise, and what had been acknowledged
// long before was graded damaged.
t.test('it is no damage of a segment', { skip: skipUnless(isRoot, 'root') }, async (t) => {
  const scratch = await Scratch.create('failing-sync');
  t.teardown(() => scratch.clean());
  const scene = await synced(t);
  await fill(scene, 2);
  const directory = journalDirectory(scene);
  const [segment = ''] = (await readdir(directory)).filter((name) => name.endsWith('.seg')).sort();
  const disk = await FaultDirectory.start(scratch, 'disk');
  const file = path.join(disk.mount, segment);
  await copyFile(path.join(directory, segment), file);
  const whole = await native.scanSegment(file, true);
  t.ok(whole.info.frames > 0);
  const rule = await disk.add({ op: 'sync', path: '*.seg', do: 'fail', errno: 'EIO' });
  t.same(await native.scanSegment(file, true), whole, 'all of it is read');
  t.ok(
    (await disk.report()).some(({ id, struck }) => id === rule && struck > 0),
    'a sync has failed',
  );
});
