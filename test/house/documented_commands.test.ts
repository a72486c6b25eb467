/** Every command line of ours that a page shows is one that the command takes. What the lines do is shown where they run. */
import { readFileSync } from 'node:fs';
import t from 'tap';
import { invoke } from '../cli/canned.js';

const PAGES = ['README.md', 'docs/CLI.md', 'docs/OPERATIONS.md', 'docs/SECURITY.md', 'docs/COMPATIBILITY.md'];
const USAGE = 2;
const PATIENCE_MS = 500;

/** Lines of code blocks, also indented ones, and code within text. */
function commandsOf(text: string): string[] {
  const blocks = [...text.matchAll(/^```sh\n(.*?)^```$/gms)].flatMap(([, block = '']) => block.split('\n'));
  const indented = text.split('\n').filter((line) => /^ {4}afterimage /.test(line));
  const lines = [...blocks, ...indented].map((line) =>
    line.trim().replace(/^(sudo|export [A-Z_]+=\S+ &&) /, ''),
  );
  return lines.filter((line) => /^afterimage /.test(line));
}

/** As a shell takes words, as far as pages need it. */
function wordsOf(line: string): string[] {
  const [command = ''] = line.split(/ (?:#|&&|\||>|2>|<)(?= |\S)/, 1);
  const words = command.replace(/ &$/, '').match(/'[^']*'|"[^"]*"|\S+/g) ?? [];
  return words.slice(1).map((word) => word.replace(/^(['"])(.*)\1$/, '$2').replace('$(hostname)', 'db1'));
}

/** What stands for something of the reader's. */
function filled(words: string[]): string[] {
  return words.map((word) =>
    /^afterimage-…$/.test(word) ? 'afterimage-x' : word.replace(/^9f86d0818.*…$/, '9'.repeat(64)),
  );
}

for (const page of PAGES) {
  t.test(page, async (t) => {
    const commands = commandsOf(readFileSync(page, 'utf8'));
    const directory = t.testdir();
    for (const line of commands) {
      const argv = filled(wordsOf(line));
      // `--watch` goes on until somebody ends it.
      const drain = AbortSignal.timeout(PATIENCE_MS);
      const { status, stderr } = await invoke(directory, argv, {
        stop: { drain, end: drain },
        ask: () => Promise.resolve(true),
        env: { AFTERIMAGE_RUN_DIR: directory, HOME: directory },
      });
      t.not(status, USAGE, `${line}: ${stderr.split('\n')[0]}`);
    }
    if (page !== 'docs/COMPATIBILITY.md' && page !== 'docs/SECURITY.md')
      t.ok(commands.length > 10, `${commands.length} commands`);
  });
}
