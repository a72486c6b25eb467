/** Protection under a device in use: each step cut off, and taken again. The kernel's own doings are in test/vm. */
import t, { type Test } from 'tap';
import { DeviceMapper } from '../../agent/device_mapper.js';
import { MappedDevice } from '../../agent/mapped_device.js';
import { AfterimageError, toAfterimageError } from '../../proto/errors.js';
import { KernelMapper } from './kernel_mapper.js';

const MAPPED = '/dev/mapper/data';
const BACKING = 'data-afterimage';
const PLAIN = ['0 5 linear 8:16 2048', '5 3 linear 8:16 0'];

/**
 * A host with an agent that takes the backing whenever it may, and remembers since when; asserts at every step that nobody
 * writes past it, and that it hears of it when somebody did in its absence.
 */
class Host {
  readonly kernel = new KernelMapper();
  readonly device = new MappedDevice(MAPPED, new DeviceMapper(this.kernel.dmsetup));
  private remembered: string | null = null;
  private wasPassed = false;

  constructor(private readonly t: Test) {
    this.kernel.add('data', PLAIN);
    this.kernel.onStep = () => this.step();
    this.step();
  }

  async insert(): Promise<void> {
    await this.device.hold();
    await this.open();
    await this.device.connect('/dev/nbd0', '43:0');
  }
  async remove(): Promise<void> {
    await this.device.hold();
    this.kernel.held.clear();
    await this.device.release();
  }

  /** As ProtectedVolume.open. */
  async open(): Promise<void> {
    const { kernel, t } = this;
    if (kernel.held.has(BACKING)) return;
    const { kind } = await this.device.way();
    if (kind === 'plain' || kind === 'direct') throw new AfterimageError('VOLUME_NOT_INSERTED', kind);
    if (!kernel.devices.has(BACKING)) throw new AfterimageError('BACKING_MISSING', BACKING);
    if (kernel.isClaimed(BACKING)) throw new AfterimageError('BACKING_BUSY', BACKING);
    kernel.held.add(BACKING);
    const insertion = await this.device.insertion();
    if (insertion === this.remembered) t.notOk(this.wasPassed, 'it would trust what it remembers');
    this.remembered = insertion;
    this.wasPassed = false;
  }

  /** Where its I/O goes just now. */
  way(): 'nowhere' | 'past' | 'through' {
    const { table, isSuspended } = this.kernel.get('data');
    const [line = ''] = table;
    if (isSuspended || / 0 0 0 $/.test(line)) return 'nowhere';
    return line.includes(' 43:') ? 'through' : 'past';
  }

  private step(): void {
    if (this.way() !== 'past') return;
    this.wasPassed = true;
    this.t.notOk(this.kernel.held.has(BACKING), 'nobody writes behind the agent');
  }
}

type Verb = 'insert' | 'remove';

/** How many steps `verb` takes from there. */
async function stepsOf(t: Test, before: readonly Verb[], verb: Verb): Promise<number> {
  const host = new Host(t);
  for (const one of before) await host[one]();
  const { steps } = host.kernel;
  await host[verb]();
  return host.kernel.steps - steps;
}

const BEFORE: Verb[][] = [[], ['insert'], ['insert', 'remove']];

for (const before of BEFORE) {
  for (const verb of before.at(-1) === 'insert' ? (['remove'] as const) : (['insert'] as const)) {
    t.test(`${[...before, verb].join(', ')}, cut off at each step`, async (t) => {
      const steps = await stepsOf(t, before, verb);
      t.ok(steps >= 4, `${steps} steps`);
      for (let cut = 0; cut < steps; cut += 1) {
        for (const then of ['insert', 'remove'] as const) {
          for (const isTaken of [false, true]) {
            const host = new Host(t);
            for (const one of before) await host[one]();
            host.kernel.stepsLeft = cut;
            await t.rejects(host[verb](), { message: 'killed' });
            host.kernel.stepsLeft = Infinity;
            // Meanwhile another agent starts, and takes what it may.
            if (isTaken) {
              host.kernel.held.clear();
              await host.open().catch((thrown: unknown) => {
                const { code } = toAfterimageError(thrown);
                if (!['VOLUME_NOT_INSERTED', 'BACKING_MISSING', 'BACKING_BUSY'].includes(code)) throw thrown;
              });
            }
            await host[then]();
            const where = `after ${cut} steps${isTaken ? ', taken' : ''}: ${then}`;
            t.equal(host.way(), then === 'insert' ? 'through' : 'past', where);
            await host.insert();
            t.equal(host.way(), 'through', `${where}, insert`);
            await host.remove();
            t.same(await host.device.way(), { kind: 'direct', isCutOff: false });
            t.same([...host.kernel.devices.keys()].sort(), ['data', BACKING], 'nothing else is left');
            t.same(host.kernel.get(BACKING).table, PLAIN, 'the old table lives on');
          }
        }
      }
    });
  }
}

t.test('the way is shut while somebody has the backing open', async (t) => {
  const host = new Host(t);
  await host.insert();
  await host.device.hold();
  await t.rejects(host.device.release(), { code: 'VOLUME_BUSY' });
  t.equal(host.way(), 'nowhere');
  t.same([...host.kernel.devices.keys()].sort(), ['data', BACKING]);
  await host.device.connect('/dev/nbd0', '43:0');
  t.equal(host.way(), 'through');
});

t.test('a device that was left suspended goes on, whatever its table is', async (t) => {
  const host = new Host(t);
  await host.insert();
  const data = host.kernel.get('data');
  data.isSuspended = true;
  t.match(await host.device.way(), { kind: 'through', isCutOff: true });
  await host.device.connect('/dev/nbd0', '43:0');
  t.equal(host.way(), 'through');
  await host.device.hold();
  data.isSuspended = true;
  await host.device.hold();
  t.equal(data.isSuspended, false);
});

t.test('what another device of that name left is not taken for its backing', async (t) => {
  const host = new Host(t);
  await host.insert();
  host.kernel.held.clear();
  host.kernel.devices.delete('data');
  host.kernel.add('data', ['0 8 linear 8:32 0']);
  await t.rejects(host.open(), { code: 'VOLUME_NOT_INSERTED' });
  await host.insert();
  t.same(host.kernel.get(BACKING).table, ['0 8 linear 8:32 0']);
});

t.test('devices that cannot be carried over', async (t) => {
  const kernel = new KernelMapper();
  const refuses = async (name: string, code: string): Promise<void> => {
    const device = new MappedDevice(`/dev/mapper/${name}`, new DeviceMapper(kernel.dmsetup));
    await t.rejects(device.hold(), { code }, name);
  };
  kernel.add('crypt', ['0 8 crypt aes-xts-plain64 :32:logon:x 0 8:16 0']);
  kernel.add('half', ['0 4 linear 8:16 0', '4 4 snapshot 8:17 8:18 P 8']);
  kernel.add('mpatha', ['0 8 multipath 1 queue_if_no_path 0 1 1 service-time 0 1 1 8:16 1 ']);
  kernel.add('queues', ['0 8 multipath 1 queue_if_no_path 0 0 0 ']);
  kernel.add('none', []);
  await refuses('nothing', 'BACKING_MISSING');
  for (const name of ['crypt', 'half', 'mpatha', 'queues', 'none']) await refuses(name, 'MAPPER_TABLE');
  t.equal(kernel.steps, 0, 'nothing was tried');
});

t.test('a path that has failed is put there again', async (t) => {
  const host = new Host(t);
  await host.insert();
  const { steps } = host.kernel;
  await host.device.connect('/dev/nbd0', '43:0');
  t.equal(host.kernel.steps, steps, 'not where it has not');
  const { dmsetup } = host.kernel;
  const failing = new DeviceMapper(async (args, table) => {
    const output = await dmsetup(args, table);
    return args[0] === 'status' ? output.replace(/ A 0 $/, ' F 1 ') : output;
  });
  await new MappedDevice(MAPPED, failing).connect('/dev/nbd0', '43:0');
  t.ok(host.kernel.steps > steps);
});
