import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import t from 'tap';
import { buildCommand } from '../../cli/command.js';
import { agentConfig } from '../../agent/config.js';
import { receiverConfigSchema } from '../../receiver/config.js';
import { FINDINGS } from '../../receiver/fsck/finding.js';
import { parseConfig } from '../../service/config.js';
import { noDaemons, Recorder } from '../cli/canned.js';

const PAGE = fileURLToPath(new URL('../../../docs/CLI.md', import.meta.url));
/** What is shown to work in a virtual machine. */
const UNIT = fileURLToPath(new URL('../../../test/vm/systemd/afterimage-agent.service', import.meta.url));

function verbs(command: Command, path: string): [path: string, verb: Command][] {
  if (command.commands.length === 0) return [[path, command]];
  return command.commands.flatMap((one) => verbs(one, `${path} ${one.name()}`));
}

t.test('docs/CLI.md has every verb and every option', (t) => {
  const text = readFileSync(PAGE, 'utf8');
  const never = new AbortController().signal;
  const program = buildCommand({
    env: {},
    cwd: '/',
    stdout: new Recorder(false),
    stderr: new Recorder(false),
    readInput: () => Promise.resolve(''),
    ask: null,
    stop: { drain: never, end: never },
    sleep: () => Promise.resolve(),
    now: () => 0,
    daemons: noDaemons,
    version: '0',
  });
  for (const [path, verb] of verbs(program, 'afterimage')) {
    t.ok(text.includes(path.replace('export open', 'export')), path);
    for (const { long } of verb.options) t.ok(text.includes(long ?? ''), `${path} ${long}`);
  }
  t.end();
});

t.test('the sample configurations are valid, and show the defaults', (t) => {
  const blocks = readFileSync(PAGE, 'utf8').matchAll(/^```toml\n(.*?)^```$/gms);
  const [receiver = '', agent = ''] = Array.from(blocks, ([, text]) => text);
  t.same(
    parseConfig(receiver, 'receiver.toml', receiverConfigSchema),
    parseConfig('', 'empty', receiverConfigSchema),
  );
  const least =
    '[[group]]\nname = "shop"\n[[group.volume]]\nname = "data"\nbacking = "/dev/vg/data"\n' +
    '[[group.volume]]\nname = "log"\nbacking = "/srv/log.img"\nattach = "socket"\n' +
    '[[group.volume]]\nname = "old"\nbacking = "/dev/vg/old"\nattach = "nbd"\n';
  t.same(parseConfig(agent, 'agent.toml', agentConfig), parseConfig(least, 'least', agentConfig));
  t.end();
});

t.test('docs/CLI.md has the settings of the unit that is tested', (t) => {
  const settings = (text: string): string[] => text.match(/^[A-Z]\w+=.*$/gm) ?? [];
  const [, shown = ''] = /```ini\n(\[Unit\]\n.*?)```/s.exec(readFileSync(PAGE, 'utf8')) ?? [];
  const tested = settings(readFileSync(UNIT, 'utf8'));
  // Not what differs from one installation to the next.
  const own = /^(Description|ExecStart|WantedBy)=/;
  t.strictSame(
    settings(shown),
    tested.filter((line) => !own.test(line)),
  );
  t.end();
});

t.test('docs/CLI.md has every code of receiver fsck, with its severity', (t) => {
  const text = readFileSync(PAGE, 'utf8');
  for (const [code, { severity }] of Object.entries(FINDINGS)) {
    t.ok(text.includes(`| \`${code}\` | ${severity} |`), code);
  }
  t.end();
});
