/**
 * The addon's objects at the end of a process. Symptom once: a receiver with two members was ended by SIGABRT on every
 * clean stop, after all its work was done. Cause: the environment frees thread-safe functions before it finalizes the
 * objects that hold them, and those released theirs a second time. If it returns, the children below end by a signal.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import t from 'tap';

const door = new URL('../../native/index.js', import.meta.url).href;

/** Runs `body` in a process of its own, which ends when nothing is left to do. */
function end(directory: string, body: string) {
  const script = `
    import * as native from ${JSON.stringify(door)};
    import path from 'node:path';
    const directory = ${JSON.stringify(directory)};
    const [group, member] = [Buffer.alloc(16, 1), Buffer.alloc(16, 2)];
    const openJournal = (name) => native.openJournal({
      headroomBytes: 0n,
      directory: path.join(directory, name), group, member, segmentBytes: 64n << 20n,
      position: { epoch: 0n, generation: 0n, lastLsn: 0n, link: 0 }, tail: null,
    });
    const createGroup = () => native.createCaptureGroup({
      group, member, ringBytes: 8n << 20n, lingerUs: 3000, lastTimeNs: 0n, era: 1, spool: null,
    });
    ${body}
    console.log('done');`;
  const child = spawnSync(process.execPath, ['--input-type=module', '--eval', script], {
    encoding: 'utf8',
    timeout: 60_000,
  });
  return { status: child.status, signal: child.signal, printed: child.stdout.trim() };
}
const clean = { status: 0, signal: null, printed: 'done' };

function journals(directory: string): string {
  for (const name of ['a', 'b', 'c']) mkdirSync(`${directory}/${name}`);
  return directory;
}

t.test('several journals that were closed', (t) => {
  const body = `for (const name of ['a', 'b', 'c']) await (await openJournal(name)).close();`;
  t.same(end(journals(t.testdir()), body), clean);
  t.end();
});

t.test('several journals that nobody closed, with answers still on their way', (t) => {
  const body = `for (const name of ['a', 'b', 'c']) {
      const writer = await openJournal(name);
      writer.append(Buffer.alloc(8)).catch(() => undefined);
    }`;
  t.same(end(journals(t.testdir()), body), clean);
  t.end();
});

t.test('several capture groups that were closed, one of them while a frame was awaited', (t) => {
  const body = `for (let i = 0; i < 3; i += 1) {
      const group = createGroup();
      const next = i === 1 ? group.next() : Promise.resolve(null);
      await group.close();
      if ((await next) !== null) throw new Error('a frame out of nothing');
    }`;
  t.same(end(t.testdir(), body), clean);
  t.end();
});

t.test('several capture groups that nobody closed', (t) => {
  t.same(end(t.testdir(), 'const groups = [createGroup(), createGroup(), createGroup()];'), clean);
  t.end();
});

t.test('work on threads of its own, which nobody awaits: its process ends with it, or without', (t) => {
  const openLogs = `for (let i = 0; i < 64; i += 1)
      native.openDirtyLog({ path: path.join(directory, String(i)), volume: group, volumeBytes: 1n << 40n, openingPatienceMs: 1000 });`;
  t.same(end(t.testdir(), openLogs), clean);
  t.same(end(t.testdir(), `${openLogs} setImmediate(() => process.exit(0));`), clean);
  t.end();
});
