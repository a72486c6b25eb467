import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { removeUnfinished, writeDurably } from '../../service/durable_file.js';
import { AuditLog } from '../../service/audit_log.js';
import { createLog } from '../../service/log.js';

t.test('what a process that died had not finished is removed, and nothing else', async (t) => {
  const directory = t.testdir({
    'a.json.17.tmp': 'half',
    'a.json.4711.tmp': '',
    'a.json.bak.1.tmp': 'of another file',
    'b.json.17.tmp': 'of another file',
    'a.json.x.tmp': 'of nobody',
  });
  const file = path.join(directory, 'a.json');
  await writeDurably(file, 'whole');
  await removeUnfinished(file);
  t.same(readdirSync(directory).sort(), ['a.json', 'a.json.bak.1.tmp', 'a.json.x.tmp', 'b.json.17.tmp']);
  t.equal(readFileSync(file, 'utf8'), 'whole');
});

t.test('an audit log that is opened has no head that was never finished', async (t) => {
  const directory = t.testdir({});
  const file = path.join(directory, 'audit.log');
  writeFileSync(`${file}.head.17.tmp`, '{"nu');
  const audit = new AuditLog(file, createLog('receiver', 'fatal'));
  await audit.open();
  await audit.write({ who: 'local', what: 'a', with: {}, outcome: 'ok' });
  await audit.close();
  t.same(readdirSync(directory).sort(), ['audit.log', 'audit.log.head']);
});
