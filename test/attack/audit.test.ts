/** An audit log from which somebody has taken something, or in which something was changed. */
import { createHash } from 'node:crypto';
import { readFile, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import pino from 'pino';
import t, { type Test } from 'tap';
import { AuditLog, readAuditLog, type AuditFault, type AuditLine } from '../../service/audit_log.js';

const silent = pino({ level: 'silent' });

async function written(test: Test, count = 5): Promise<string> {
  const file = path.join(test.testdir(), 'audit.log');
  await append(file, count);
  return file;
}
async function append(file: string, count: number): Promise<void> {
  const log = new AuditLog(file, silent);
  for (let at = 0; at < count; at += 1)
    await log.write({
      who: 'operator anna',
      what: 'checkpoint delete',
      with: { name: `c${at}` },
      outcome: 'ok',
    });
  await log.close();
}
async function verdict(
  file: string,
  expected: string | null = null,
): Promise<{ faults: AuditFault[]; lines: number; hash: string; read: AuditLine[] }> {
  const reading = readAuditLog(file, expected);
  const read: AuditLine[] = [];
  for (;;) {
    const next = await reading.next();
    if (next.done === true) return { ...next.value, read };
    read.push(next.value);
  }
}
function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
async function linesOf(file: string): Promise<string[]> {
  return (await readFile(file, 'utf8')).split('\n').slice(0, -1);
}

t.test('one that is as it was written', async (t) => {
  const file = await written(t);
  t.same((await verdict(file)).faults, []);
  await append(file, 2);
  const { faults, lines, read } = await verdict(file);
  t.same(faults, [], 'it goes on after a restart');
  t.equal(lines, 7);
  t.same(
    read.map(({ number }) => number),
    [1, 2, 3, 4, 5, 6, 7],
  );
});

const CHANGES: Record<string, (lines: string[]) => string[]> = {
  'a line was changed': (lines) => lines.with(2, (lines[2] ?? '').replace('c2', 'c9')),
  'a line was changed, and the next one fitted to it': (lines) => {
    const changed = (lines[1] ?? '').replace('anna', 'hans');
    const fitted = { ...(JSON.parse(lines[2] ?? '') as AuditLine), previous: hashOf(changed) };
    return lines.with(1, changed).with(2, JSON.stringify(fitted));
  },
  'the first line was removed': (lines) => lines.slice(1),
  'a line was removed': (lines) => lines.toSpliced(2, 1),
  'the last line was removed': (lines) => lines.slice(0, -1),
  'all lines were removed': () => [],
  'two lines were reordered': (lines) => lines.with(1, lines[2] ?? '').with(2, lines[1] ?? ''),
  'a line was added': (lines) => lines.toSpliced(2, 0, lines[1] ?? ''),
  'the last line was changed': (lines) => lines.with(-1, (lines.at(-1) ?? '').replace('ok', 'no')),
  'a line that is none': (lines) => lines.with(0, 'x'),
};
for (const [what, change] of Object.entries(CHANGES)) {
  t.test(what, async (t) => {
    const file = await written(t);
    const before = await linesOf(file);
    const after = change(before);
    t.not(after.join('\n'), before.join('\n'));
    await writeFile(file, after.map((line) => `${line}\n`).join(''));
    t.not((await verdict(file)).faults.length, 0);
    await append(file, 3);
    t.not((await verdict(file)).faults.length, 0, 'and when the daemon has written on');
  });
}

t.test('the log and its head were made up together: a hash that was noted elsewhere finds it', async (t) => {
  const file = await written(t);
  const noted = (await verdict(file)).hash;
  t.same((await verdict(file, noted)).faults, []);
  const made = path.join(t.testdir(), 'made.log');
  await append(made, 9);
  await writeFile(file, await readFile(made));
  await writeFile(`${file}.head`, await readFile(`${made}.head`));
  t.same((await verdict(file)).faults, [], 'alone it looks whole');
  t.match((await verdict(file, noted)).faults, [{ what: /no line has the hash/ }]);
});

t.test('the head was removed, or is something else', async (t) => {
  for (const text of ['', '{}', '{"number":5,"hash":"x"}', '{"number":-1,"hash":""}']) {
    const file = await written(t);
    await writeFile(`${file}.head`, text);
    t.not((await verdict(file)).faults.length, 0, text);
    await append(file, 1);
    t.not((await verdict(file)).faults.length, 0);
  }
});

t.test('what a crash leaves is no fault', async (t) => {
  const file = await written(t);
  const head = await readFile(`${file}.head`);
  await append(file, 1);
  await writeFile(`${file}.head`, head);
  t.same((await verdict(file)).faults, [], 'a line whose head was not written yet');
  await append(file, 1);
  t.same((await verdict(file)).faults, []);
  await writeFile(file, `${await readFile(file, 'utf8')}{"number":8,"ti`);
  await append(file, 1);
  const { faults, read } = await verdict(file);
  t.same(faults, [], 'half a line, of which nobody was told');
  t.equal(read.at(-1)?.number, 8);
});

t.test('a link that somebody has put there is not followed', async (t) => {
  const directory = t.testdir({ victim: 'precious' });
  const file = path.join(directory, 'audit.log');
  await symlink(path.join(directory, 'victim'), file);
  await append(file, 1);
  t.equal(await readFile(path.join(directory, 'victim'), 'utf8'), 'precious');
});

t.test('what could not be written is counted', async (t) => {
  const directory = t.testdir({ 'audit.log': {} });
  const file = path.join(directory, 'audit.log');
  const log = new AuditLog(file, silent);
  await log.write({ who: 'local', what: 'a', with: {}, outcome: 'ok' });
  await log.write({ who: 'local', what: 'b', with: {}, outcome: 'ok' });
  const { rmdir } = await import('node:fs/promises');
  await rmdir(file);
  await log.write({ who: 'local', what: 'c', with: {}, outcome: 'ok' });
  await log.close();
  t.match((await verdict(file)).read, [{ what: 'c', lost: 2 }]);
});

t.test('names of any length', async (t) => {
  const file = path.join(t.testdir(), 'audit.log');
  const log = new AuditLog(file, silent);
  const long = 'x\n\u0000'.repeat(100_000);
  await log.write({
    who: long,
    what: 'export open',
    with: { long, many: Array.from({ length: 10_000 }, () => long) },
    outcome: 'ok',
  });
  await log.close();
  const { faults, lines } = await verdict(file);
  t.same(faults, []);
  t.equal(lines, 1);
});

t.test('whoever asks faster than the disk writes takes nobody else out of it', async (t) => {
  const file = path.join(t.testdir(), 'audit.log');
  const log = new AuditLog(file, silent);
  const entry = { what: 'renew', with: {}, outcome: 'ok' };
  const flood = Array.from({ length: 5000 }, () => log.write({ who: 'host evil', ...entry }));
  const others = ['operator anna', 'local'].map((who) =>
    log.write({ who, ...entry, what: 'checkpoint delete' }),
  );
  await Promise.all([...flood, ...others]);
  await log.write({ who: 'local', ...entry });
  await log.close();
  const { faults, read } = await verdict(file);
  t.same(faults, []);
  t.same(
    read.filter(({ what }) => what === 'checkpoint delete').map(({ who }) => who),
    ['operator anna', 'local'],
  );
  const lost = read.reduce((sum, line) => sum + line.lost, 0);
  t.equal(read.length + lost, flood.length + 3, 'what was lost is counted');
});

t.test('an entry is short, whatever was asked for', async (t) => {
  const file = path.join(t.testdir(), 'audit.log');
  const log = new AuditLog(file, silent);
  const volumes = Array.from({ length: 4096 }, () => 'v'.repeat(4096));
  await log.write({
    who: 'x'.repeat(9999),
    what: 'export',
    with: { volumes, to: 'y'.repeat(9999) },
    outcome: 'ok',
  });
  await log.close();
  t.ok((await readFile(file)).length < 8192);
  const told = (await verdict(file)).read[0]?.with['volumes'];
  t.equal(Array.isArray(told) && told.at(-1), '… 4064 more');
});
