/** Operators may do what their role says, each verb needs one, and what was done is written down. */
import { mkdir, readFile, symlink } from 'node:fs/promises';
import { userInfo } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { accessService, OPERATOR_ROLES, type OperatorRole } from '../../proto/access.js';
import { receiverControlService } from '../../proto/control.js';
import { RULES, type CallName } from '../../receiver/guard.js';
import type { AuditLine } from '../../service/audit_log.js';
import type { RpcClient } from '../../service/rpc.js';
import type { RunningReceiver } from '../receiver/running_receiver.js';
import { exportOf, synced, type Scene } from '../receiver/synced_scene.js';
import { clientOf, codeOf } from './client.js';

const LIMITS = { timeoutMs: 10_000 };
const STREAMS: readonly string[] = ['recover', 'scrub'] satisfies CallName[];
/** Harmless where it is let in, or refused for another reason. */
const REQUESTS: Partial<Record<CallName, object>> = {
  timeline: { group: 'db' },
  point: { group: 'db', point: 'latest' },
  checkpointList: { group: 'db' },
  checkpointCreate: { group: 'none', name: 'a', pin: false, lockUntilNs: 0n },
  checkpointPin: { group: 'db', name: 'none', pinned: true, lockUntilNs: 0n },
  checkpointDelete: { group: 'db', name: 'none' },
  exportOpen: exportOf('lsn:999999'),
  exportClose: { id: 'none' },
  scrub: { group: 'none', rateMax: 0n },
  recover: { group: 'none', volume: '', point: 'latest', target: '/nowhere', overwrite: false, force: false },
  tokenCreate: { kind: 'host', name: '', role: '', groups: [], foundsGroups: true, ttlNs: 60_000_000_000n },
  tokenDelete: { id: 'none' },
  identityList: { kind: 'host' },
  identityRevoke: { kind: 'host', name: 'none' },
  hostGrant: { host: 'none', group: 'db', granted: true },
};

async function outcome(client: RpcClient, name: CallName): Promise<string> {
  const method = { ...receiverControlService, ...accessService }[name] as never;
  const request = (REQUESTS[name] ?? {}) as never;
  if (!STREAMS.includes(name)) return codeOf(client.callUnary(method, request, LIMITS));
  const read = async (): Promise<void> => {
    for await (const message of client.callStream(method, request, LIMITS)) void message;
  };
  return codeOf(read());
}

async function operator(test: Test, receiver: RunningReceiver, role: OperatorRole): Promise<RpcClient> {
  const identity = await receiver.join('operator', role, { role });
  return clientOf(test, receiver.tls, identity.authority, identity);
}

async function audited({ receiver }: Pick<Scene, 'receiver'>): Promise<AuditLine[]> {
  const text = await readFile(path.join(receiver.store, 'audit.log'), 'utf8');
  return text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as AuditLine);
}

t.test('each call, by each role', async (t) => {
  const { receiver } = await synced(t);
  for (const [at, role] of OPERATOR_ROLES.entries()) {
    const client = await operator(t, receiver, role);
    for (const [name, { role: needed }] of Object.entries(RULES) as [CallName, (typeof RULES)[CallName]][]) {
      const isEnough = at >= OPERATOR_ROLES.indexOf(needed);
      const code = await outcome(client, name);
      t.equal(code === 'ROLE_INSUFFICIENT', !isEnough, `${role}: ${name}, which needs ${needed}: ${code}`);
      t.not(code, 'PROTOCOL_VERSION', `${name} is there`);
    }
  }
});

t.test('a retention lock outlasts every role', async (t) => {
  const { receiver, agent, stream } = await synced(t);
  const name = 'kept';
  const { lsn, timeNs } = agent.position();
  stream.say({ checkpoint: { requestId: 'a', name, lsn, timeNs } });
  await stream.hear('checkpointDone');
  const now = BigInt(Date.now()) * 1_000_000n;
  const [second, year] = [1_000_000_000n, 365n * 86_400_000_000_000n];
  const keeper = await operator(t, receiver, 'operator');
  const admin = await operator(t, receiver, 'admin');
  const pin = (client: RpcClient, pinned: boolean, lockUntilNs = 0n): Promise<string> =>
    codeOf(
      client.callUnary(
        receiverControlService.checkpointPin,
        { group: 'db', name, pinned, lockUntilNs },
        LIMITS,
      ),
    );
  t.equal(await pin(keeper, true), 'ok');
  t.equal(await pin(keeper, false), 'ROLE_INSUFFICIENT', 'to let go of history is more than to keep it');
  t.equal(await pin(keeper, true, now + year), 'ROLE_INSUFFICIENT', 'a lock fills the store until its day');
  const create = { group: 'db', name: 'new', pin: true, lockUntilNs: now + year };
  t.equal(
    await codeOf(keeper.callUnary(receiverControlService.checkpointCreate, create, LIMITS)),
    'ROLE_INSUFFICIENT',
  );
  t.equal(await pin(admin, true, now + year), 'ok');
  t.equal(await pin(admin, false), 'CHECKPOINT_LOCKED');
  t.equal(await pin(admin, true, now + second), 'ok', 'a shorter lock is none');
  t.equal(await pin(admin, true, 2n ** 64n - 1n), 'USAGE');
  const local = [
    receiver.call('checkpointPin', { group: 'db', name, pinned: false, lockUntilNs: 0n }),
    receiver.call('checkpointDelete', { group: 'db', name }),
  ];
  for (const call of local)
    t.equal(await codeOf(call), 'CHECKPOINT_LOCKED', 'whoever is on the machine neither');
  const { checkpoints } = await receiver.call('checkpointList', { group: 'db' });
  t.match(checkpoints, [{ name, pinned: true, lockedUntilNs: now + year }]);
});

t.test('a lock ends at its date', async (t) => {
  const { receiver, agent, stream } = await synced(t);
  const { lsn, timeNs } = agent.position();
  stream.say({ checkpoint: { requestId: 'a', name: 'kept', lsn, timeNs } });
  await stream.hear('checkpointDone');
  const lockUntilNs = BigInt(Date.now() + 1000) * 1_000_000n;
  await receiver.call('checkpointPin', { group: 'db', name: 'kept', pinned: true, lockUntilNs });
  const unpin = { group: 'db', name: 'kept', pinned: false, lockUntilNs: 0n };
  t.equal(await codeOf(receiver.call('checkpointPin', unpin)), 'CHECKPOINT_LOCKED');
  await sleep(1100);
  t.equal(await codeOf(receiver.call('checkpointPin', unpin)), 'ok');
});

t.test('an operator who was revoked can do nothing, at once', async (t) => {
  const { receiver } = await synced(t);
  const client = await operator(t, receiver, 'admin');
  t.equal(await outcome(client, 'status'), 'ok');
  await receiver.access('identityRevoke', { kind: 'operator', name: 'admin' });
  t.equal(await outcome(client, 'status'), 'IDENTITY_REFUSED');
});

t.test('paths of the receiver are not for operators elsewhere', async (t) => {
  const scene = await synced(t);
  const { receiver } = scene;
  const recoveries = path.join(receiver.directory, 'recoveries');
  await mkdir(recoveries);
  await symlink('/etc', path.join(recoveries, 'etc'));
  await symlink('/etc/afterimage-attack', path.join(recoveries, 'link'));
  await receiver.stop();
  await receiver.run(`recovery_dir = "${recoveries}"\n`);
  const client = await operator(t, receiver, 'admin');
  const recover = (target: string): Promise<string> =>
    codeOf(
      (async () => {
        const request = {
          group: 'db',
          volume: 'data',
          point: 'latest',
          target,
          overwrite: false,
          force: true,
        };
        for await (const message of client.callStream(receiverControlService.recover, request, LIMITS))
          void message;
      })(),
    );
  const elsewhere = [
    '/etc/afterimage-attack',
    `${recoveries}/../attack`,
    `${recoveries}/etc/attack`,
    recoveries,
    `${recoveries}-2/x`,
    'relative',
  ];
  for (const target of elsewhere) t.equal(await recover(target), 'TARGET_FORBIDDEN', target);
  t.equal(await recover(`${recoveries}/out.img`), 'ok');
  const open = { ...exportOf('latest'), force: true, socket: `${receiver.directory}/attack.sock` };
  t.equal(
    await codeOf(client.callUnary(receiverControlService.exportOpen, open, LIMITS)),
    'TARGET_FORBIDDEN',
  );
});

t.test('who did what is written down, and what nobody did is not', async (t) => {
  const scene = await synced(t);
  const { receiver } = scene;
  const viewer = await operator(t, receiver, 'viewer');
  const admin = await operator(t, receiver, 'admin');
  const before = (await audited(scene)).length;
  await outcome(viewer, 'status');
  await outcome(viewer, 'checkpointDelete');
  await outcome(admin, 'checkpointDelete');
  await outcome(admin, 'scrub');
  await receiver.access('tokenCreate', {
    kind: 'host',
    name: 'db9',
    role: '',
    groups: [],
    foundsGroups: true,
    ttlNs: 60_000_000_000n,
  });
  const lines = (await audited(scene)).slice(before);
  t.match(lines, [
    {
      who: 'operator admin',
      what: 'checkpoint delete',
      with: { group: 'db', name: 'none' },
      outcome: 'CHECKPOINT_UNKNOWN',
    },
    { who: 'operator admin', what: 'receiver scrub', with: { group: 'none' }, outcome: 'begun' },
    { who: 'operator admin', what: 'receiver scrub', with: { group: 'none' }, outcome: 'GROUP_UNKNOWN' },
    {
      who: `local ${userInfo().username}`,
      what: 'receiver token create',
      with: { kind: 'host', name: 'db9' },
      outcome: 'ok',
    },
  ]);
  t.equal(lines.length, 4);
  const joins = (await audited(scene)).filter(({ what }) => what === 'join').map(({ who }) => who);
  t.same(joins, ['operator viewer', 'operator admin']);
  t.notMatch(await readFile(path.join(receiver.store, 'audit.log'), 'utf8'), /afterimage-/, 'no token');
});
