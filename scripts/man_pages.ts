/** Man pages (man-pages(7)) from the command's own descriptions, and from the annotated configurations of docs/CLI.md. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Command } from 'commander';
import { describedCommand, verbsOf } from '../cli/description.js';
import { EXIT } from '../proto/errors.js';

const SUMMARY = 'continuous data protection for Linux volumes';

/** Writes afterimage.1 and the two configurations' .5 below `directory`; returns their paths. */
export function writeManPages(directory: string, version: string, date: string): string[] {
  const pages: Record<string, string> = {
    'man1/afterimage.1': commandPage(describedCommand(version), version, date),
  };
  const blocks = readFileSync('docs/CLI.md', 'utf8').matchAll(/^```toml\n(.*?)^```$/gms);
  const samples = Array.from(blocks, ([, text]) => text ?? '');
  for (const [at, daemon] of ['receiver', 'agent'].entries())
    pages[`man5/afterimage-${daemon}.toml.5`] = configPage(
      daemon,
      samplesOf(samples, at, daemon),
      version,
      date,
    );
  return Object.entries(pages).map(([name, text]) => {
    const file = path.join(directory, name);
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, text);
    return file;
  });
}

/** The first block that has a key of the daemon's; the receiver's [retention] is in its first one. */
function samplesOf(samples: readonly string[], at: number, daemon: string): string {
  const sample = samples[at];
  if (sample === undefined) throw new Error(`docs/CLI.md shows no ${daemon}.toml`);
  return sample;
}

function commandPage(program: Command, version: string, date: string): string {
  const verbs = verbsOf(program).map(({ path, command }) => [
    `.SS ${text(path)} ${text(command.usage().replace(/^\[options\] ?/, ''))}`,
    text(command.description()),
    ...command.options.map(({ flags, description }) => `.TP\n.B ${text(flags)}\n${text(description)}`),
  ]);
  const statuses = Object.entries(EXIT).map(([name, status]) => `.TP\n.B ${status}\n${text(name)}`);
  return [
    `.TH AFTERIMAGE 1 "${date}" "afterimage ${version}" "Afterimage"`,
    '.SH NAME',
    `afterimage \\- ${SUMMARY}`,
    '.SH SYNOPSIS',
    '.B afterimage',
    '.I verb',
    '[\\fIoptions\\fR]',
    '.SH DESCRIPTION',
    text(program.description()),
    '.SH VERBS',
    ...verbs.flat(),
    '.SH EXIT STATUS',
    ...statuses,
    '.SH FILES',
    ...['agent', 'receiver'].map(
      (daemon) => `.TP\n.I /etc/afterimage/${daemon}.toml\nsee afterimage\\-${daemon}.toml(5)`,
    ),
    '.SH ENVIRONMENT',
    ...[
      ['AFTERIMAGE_CONTROL', "the daemon's control socket"],
      ['AFTERIMAGE_CONFIG', 'a configuration'],
      ['AFTERIMAGE_RUN_DIR', 'where control sockets are looked for'],
      ['AFTERIMAGE_RECEIVER', 'HOST:PORT of a receiver elsewhere'],
      ['NO_COLOR', 'no colour on terminals'],
    ].map(([name = '', meaning = '']) => `.TP\n.B ${name}\n${text(meaning)}`),
    '.SH SEE ALSO',
    'afterimage\\-agent.toml(5), afterimage\\-receiver.toml(5), systemd.unit(5)',
    '',
  ].join('\n');
}

function configPage(daemon: string, sample: string, version: string, date: string): string {
  const name = `afterimage-${daemon}.toml`;
  return [
    `.TH ${name.toUpperCase().replaceAll('-', '\\-')} 5 "${date}" "afterimage ${version}" "Afterimage"`,
    '.SH NAME',
    `${text(name)} \\- configuration of the Afterimage ${daemon}`,
    '.SH DESCRIPTION',
    `.I /etc/afterimage/${daemon}.toml`,
    `is TOML. Unknown keys are errors. All of it, with its defaults; what begins with # has none. \\fBafterimage ${daemon} configcheck\\fR names every mistake with its line.`,
    '.SH SETTINGS',
    '.nf',
    ...sample.trimEnd().split('\n').map(text),
    '.fi',
    '.SH SEE ALSO',
    'afterimage(1)',
    '',
  ].join('\n');
}

/** As roff takes it: no line begins with a request, hyphens are what is typed. */
function text(plain: string): string {
  const escaped = plain.replaceAll('\\', '\\e').replaceAll('-', '\\-').replaceAll('…', '...');
  return escaped.replace(/^([.'])/, '\\&$1');
}
