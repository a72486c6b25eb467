/**
 * The daemons as the command knows them. They are loaded when they are run: no other verb needs the addon, and they
 * answer sooner without it.
 */
import type { AgentCalls, VolumeSubject } from '../agent/insertion.js';
import type { Layouts } from '../agent/layouts.js';
import type { AuthorityReplacement } from '../receiver/new_authority.js';
import type { CheckProgress, StoreReport } from '../receiver/fsck/store_check.js';
import type { Identity } from '../service/identity.js';
import type { StopSignals } from '../service/signals.js';
import type { LogLevel } from '../service/settings.js';

/** What flags and environment put in place of the file's settings; null leaves them. */
export interface DaemonOverrides {
  control: string | null;
  logLevel: LogLevel | null;
}

/** What a configuration file says, for `configcheck`. */
export interface ConfigSummary {
  /** Path of the control socket. */
  control: string;
  /** For people: "2 groups with 3 volumes". */
  text: string;
}

/** How a store is to be checked, for `receiver fsck`. */
export interface StoreCheckRequest {
  /** The store's directory. */
  store: string;
  /** Bytes per second that are read at most; null: no bound. */
  rate: bigint | null;
  progress: (progress: CheckProgress) => void;
  /** Asked once whether what was found is to be repaired; null: it is not. */
  confirm: ((report: StoreReport) => Promise<boolean>) | null;
  signal: AbortSignal;
}

/** Under which volumes protection is to be put, or from under which it is to be taken. */
export interface InsertionRequest {
  /** The agent's configuration. */
  config: string;
  subject: VolumeSubject;
  agent: AgentCalls;
  /** Aborted: nothing is begun any more. */
  drain: AbortSignal;
}

/** How a host is to join a receiver. */
export interface HostJoinRequest {
  /** "HOST:PORT" */
  address: string;
  token: string;
  /** The agent's configuration, which may name its state directory; it need not be there. */
  config: string;
  /** Of this host; null: as the system has it. */
  name: string | null;
  /** Called when this host has joined another receiver, by its address; rejects to leave it so. */
  confirm: (before: string) => Promise<void>;
}
export interface HostJoined {
  name: string;
  receiver: string;
  /** Of the authority, "AB:CD:…". */
  fingerprint: string;
  /** The address of the receiver that it had joined before; null: none. */
  replaced: string | null;
}

export interface Daemons {
  /** Errors: CONFIG_MISSING, CONFIG_INVALID and what its values may be refused with. */
  checkAgent(config: string): Promise<ConfigSummary>;
  checkReceiver(config: string): Promise<ConfigSummary>;
  /** What of a predecessor this version can go on with: agent/layouts.ts. */
  agentLayouts(): Promise<Layouts>;
  /** Resolves when the daemon has ended in good order. */
  runAgent(config: string, overrides: DaemonOverrides, stop: StopSignals, version: string): Promise<void>;
  /**
   * Runs this very command line without `flag`, in the place of this process, below a supervisor that keeps its descriptors.
   * Returns only where a service manager does so already. Errors: SUPERVISOR_UNAVAILABLE.
   */
  supervise(flag: string): Promise<void>;
  /** Resolves with the devices. Errors: those of agent/insertion.ts, and of the configuration. */
  insertVolumes(request: InsertionRequest): Promise<string[]>;
  removeVolumes(request: InsertionRequest): Promise<string[]>;
  runReceiver(config: string, overrides: DaemonOverrides, stop: StopSignals, version: string): Promise<void>;
  /** Makes an empty store, with an authority of that fingerprint: "AB:CD:…". Errors: STORE_EXISTS, PERMISSION_DENIED. */
  initReceiver(store: string): Promise<{ fingerprint: string }>;
  /** Another authority for a store; `confirm` rejects to leave it so. Errors: those of replaceAuthority (receiver/new_authority.ts). */
  replaceAuthority(
    store: string,
    confirm: (replacement: AuthorityReplacement) => Promise<void>,
  ): Promise<{ fingerprint: string }>;
  /** Errors: those of joinReceiver (service/joining.ts), of the configuration, IDENTITY_INVALID, PERMISSION_DENIED. */
  joinReceiver(request: HostJoinRequest): Promise<HostJoined>;
  /** As an operator. Errors: those of joinReceiver (service/joining.ts). */
  logIn(request: { address: string; token: string }): Promise<Identity>;
  /** The program and the first arguments by which this command is run. */
  command(): readonly string[];
  /** Errors: STORE_MISSING, STORE_INVALID, STORE_VERSION, STORE_BUSY, INTERRUPTED, PERMISSION_DENIED, IO_ERROR. */
  checkStore(request: StoreCheckRequest): Promise<StoreReport>;
  /** The directory that a receiver's configuration names. */
  storeOf(config: string): Promise<string>;
}
