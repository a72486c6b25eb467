/**
 * README's "By hand", typed as a new user would: its commands in their order in one shell, with a directory of their own in the place of
 * /tmp/ai, and what a person reads off the screen read off it here.
 */
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import t from 'tap';
import { isRoot, skipUnless } from '../prerequisite.js';
import { command } from './command.js';
import { Scratch } from './scratch.js';
import { freePort } from './site.js';

/** Set up already; and what has a virtual machine of its own (test/vm/guest/insertion.ts). */
const ELSEWHERE = [/^npm run setup$/, /^# in agent\.toml/, /^afterimage volume (insert|remove) GROUP/];

type Rule = [line: RegExp, instead: string];
/** What a person does between two lines. */
const BY_HAND: Rule[] = [
  [/^sleep 2 .*$/m, 'until [ -S @/run/receiver.sock ]; do sleep 0.1; done; sleep 0.5'],
  // "until both say `protected`; Ctrl-C ends it"
  [
    /^afterimage status --watch .*$/m,
    'until [ "$(afterimage status | grep -c "^shop .*protected")" = 2 ]; do sleep 0.5; done',
  ],
  [
    /^(afterimage export shop --at checkpoint:before-upgrade --writable --device)$/m,
    'opened=$($1 --json); id=$(field "$opened" "it.id"); device=$(field "$opened" "it.volumes[0].device")',
  ],
  [/\/dev\/loop1(.*)# the device that `export` printed/, '"$device"$1'],
  [/78005a11(.*)# the id that `export` printed/, '"$id"$1'],
];

t.test('by hand', { skip: skipUnless(isRoot, 'root') }, async (t) => {
  const scratch = await Scratch.create('readme');
  t.teardown(() => scratch.clean());
  const readme = readFileSync('README.md', 'utf8');
  const part = readme.slice(readme.indexOf('## By hand'), readme.indexOf('## Limits'));
  let script = [...part.matchAll(/^```sh\n(.*?)^```$/gms)].map(([, block]) => block ?? '').join('\n');
  for (const [line, instead] of BY_HAND) {
    t.match(script, line, `there is ${line}`);
    script = script.replace(line, instead);
  }
  const lines = script.split('\n').filter((line) => !ELSEWHERE.some((pattern) => pattern.test(line)));
  const port = String(await freePort());
  const here = lines
    .join('\n')
    .replaceAll('/tmp/ai', scratch.directory)
    .replaceAll('@/', `${scratch.directory}/`)
    .replaceAll(':7443', `:${port}`);
  const file = scratch.path('by-hand.sh');
  // Production goes on, whatever becomes of this shell: it is told to end.
  const head = `set -eum
shopt -s expand_aliases
field() { node -p "const it = JSON.parse(process.argv[1]); $2" "$1"; }
end() { umount -q ${scratch.path('then')} ${scratch.path('mnt')} || true; kill %2 2>/dev/null && wait %2 || true; kill %1 2>/dev/null && wait %1 || true; }
trap end EXIT
`;
  await writeFile(file, `${head}${here}\necho 'README: to its end'\n`);
  const { stdout, stderr } = await command('bash', [file], { cwd: path.resolve('.'), secondsMax: 200 });
  t.match(stdout, /^precious$/m, 'the file as it was before the accident');
  t.match(stdout, /README: to its end/, stderr);
});
