/** The daemons themselves, each loaded when it is asked for. */
import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { AgentConfig } from '../agent/config.js';
import type { InsertionSurroundings } from '../agent/insertion.js';
import type { Succession } from '../agent/succession.js';
import type { ReceiverConfig } from '../receiver/config.js';
import type { DaemonOverrides, Daemons, InsertionRequest } from './daemons.js';
import { AfterimageError, toAfterimageError } from '../proto/errors.js';
import { parseAddress } from '../service/settings.js';
import { formatFingerprint, parseToken } from '../service/token.js';
import { formatCount } from './quantity.js';

/** `succession`: what this process has taken over already, of an agent that died. */
export const daemonModules = (succession: Promise<Succession> | null, version: string): Daemons => ({
  async checkAgent(file) {
    const { loadAgentConfig } = await import('../agent/config.js');
    const { refuseSelfHolding } = await import('../agent/backing.js');
    const config = await loadAgentConfig(file);
    await refuseSelfHolding(config);
    const { control, groups } = config;
    const volumes = groups.reduce((sum, group) => sum + group.volumes.length, 0);
    return { control, text: `${formatCount(groups.length, 'group')}, ${formatCount(volumes, 'volume')}` };
  },
  async agentLayouts() {
    const { layouts } = await import('../agent/layouts.js');
    // What cannot be loaded is no successor.
    await Promise.all([import('../agent/succession.js'), import('../agent/main.js')]);
    return layouts();
  },
  async checkReceiver(file) {
    const { loadReceiverConfig } = await import('../receiver/config.js');
    const { control, store } = await loadReceiverConfig(file);
    return { control, text: `store ${store}` };
  },
  async runAgent(file, overrides, stop, version) {
    const { loadAgentConfig } = await import('../agent/config.js');
    const { runAgent } = await import('../agent/main.js');
    const { Succession } = await import('../agent/succession.js');
    const load = async (): Promise<AgentConfig> => overridden(await loadAgentConfig(file), overrides);
    await runAgent(load, stop, version, await (succession ?? Succession.begin(stop.drain)));
  },
  async supervise(flag) {
    const { becomeProgram, hasServiceManager, supervisorPath } = await import('../native/index.js');
    if (hasServiceManager()) return;
    const [script, ...args] = process.argv.slice(1);
    const rest = [...process.execArgv, script ?? '', ...args.filter((arg) => arg !== flag)];
    becomeProgram(supervisorPath, [process.execPath, ...rest]);
  },
  async insertVolumes(request) {
    const { insertVolumes } = await import('../agent/insertion.js');
    return insertVolumes(request.subject, await insertionSurroundings(request));
  },
  async removeVolumes(request) {
    const { removeVolumes } = await import('../agent/insertion.js');
    return removeVolumes(request.subject, await insertionSurroundings(request));
  },
  async runReceiver(file, overrides, stop, version) {
    const { loadReceiverConfig } = await import('../receiver/config.js');
    const { runReceiver } = await import('../receiver/main.js');
    const load = async (): Promise<ReceiverConfig> => overridden(await loadReceiverConfig(file), overrides);
    await runReceiver(await load(), stop, version, {}, load);
  },
  async initReceiver(store) {
    const { Authority } = await import('../receiver/authority.js');
    const { Store } = await import('../receiver/store.js');
    const uuid = randomUUID();
    const authority = await Authority.generate(uuid);
    await Store.init(store, uuid, ({ authorityFile }) => authority.write(authorityFile));
    return { fingerprint: formatFingerprint(authority.fingerprint) };
  },
  async replaceAuthority(store, confirm) {
    const { lockFile } = await import('../native/index.js');
    const { replaceAuthority } = await import('../receiver/new_authority.js');
    const { fingerprint } = await replaceAuthority(store, lockFile, confirm);
    return { fingerprint: formatFingerprint(fingerprint) };
  },
  async joinReceiver({ address, token, config, name, confirm }) {
    const { identityFile, stateDirOf } = await import('../agent/config.js');
    const { makeDirectory } = await import('../agent/directory.js');
    const { readIdentity, writeIdentity } = await import('../service/identity.js');
    const { joinReceiver } = await import('../service/joining.js');
    const { fingerprintOf } = await import('../service/certificates.js');
    const at = parseAddress(address, 1);
    if (at === null) throw new AfterimageError('USAGE', `${address} is no address`);
    const stateDir = await stateDirOf(config);
    await makeDirectory(stateDir);
    const file = identityFile(stateDir);
    const before = await readIdentity(file);
    const pinned = parseToken(token).fingerprint;
    const isOther = before !== null && !fingerprintOf(before.authority).equals(pinned);
    if (isOther) await confirm(before.receiver);
    const subject = { kind: 'host', name: name ?? hostname(), software: `afterimage ${version}` } as const;
    const identity = await joinReceiver(at, token, subject);
    await writeIdentity(file, identity);
    const fingerprint = formatFingerprint(fingerprintOf(identity.authority));
    return {
      name: identity.name,
      receiver: address,
      fingerprint,
      replaced: isOther ? before.receiver : null,
    };
  },
  command: () => [process.execPath, ...process.argv.slice(1, 2)],
  async logIn({ address, token }) {
    const { joinReceiver } = await import('../service/joining.js');
    const at = parseAddress(address, 1);
    if (at === null) throw new AfterimageError('USAGE', `${address} is no address`);
    return joinReceiver(at, token, { kind: 'operator', name: '', software: `afterimage ${version}` });
  },
  async checkStore({ store, rate, progress, confirm, signal }) {
    const native = await import('../native/index.js');
    const { StoreCheck } = await import('../receiver/fsck/store_check.js');
    const { AuditLog } = await import('../service/audit_log.js');
    const { createLog } = await import('../service/log.js');
    const { localSelf } = await import('../service/local_caller.js');
    const parts = {
      ...{ native, rate, progress, signal },
      nowMs: () => performance.now(),
      sleep: (ms: number) => delay(ms, undefined, { signal }).catch(() => undefined),
      // What it does is in its report.
      log: createLog('fsck', 'fatal'),
    };
    const check = await StoreCheck.open(parts, store);
    try {
      const report = await check.check();
      if (confirm === null || !check.isRepairable || !(await confirm(report))) return report;
      const audit = new AuditLog(path.join(store, 'audit.log'), parts.log);
      const note = (outcome: string): Promise<void> =>
        audit.write({ who: localSelf(), what: 'receiver fsck --repair', with: {}, outcome });
      await note('begun');
      try {
        const repaired = await check.repair();
        await note('ok');
        return repaired;
      } catch (thrown) {
        await note(toAfterimageError(thrown).code);
        throw thrown;
      } finally {
        await audit.close();
      }
    } finally {
      check.close();
    }
  },
  async storeOf(file) {
    const { loadReceiverConfig } = await import('../receiver/config.js');
    return (await loadReceiverConfig(file)).store;
  },
});

async function insertionSurroundings(request: InsertionRequest): Promise<InsertionSurroundings> {
  const { config, agent, drain } = request;
  const { loadAgentConfig } = await import('../agent/config.js');
  const { DeviceMapper } = await import('../agent/device_mapper.js');
  const { createLog } = await import('../service/log.js');
  const door = await import('../native/index.js');
  const log = createLog('volume', 'fatal'); // its errors tell what is to be known
  const programs = ['/', process.execPath, ...process.argv.slice(1, 2), config];
  const mapper = new DeviceMapper();
  return { config: await loadAgentConfig(config), agent, mapper, door, log, programs, drain };
}

function overridden<T extends { control: string; logLevel: unknown }>(
  config: T,
  { control, logLevel }: DaemonOverrides,
): T {
  return { ...config, control: control ?? config.control, logLevel: logLevel ?? config.logLevel };
}
