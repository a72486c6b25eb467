/** Whether the receiver serves, for whoever asks by gRPC's health checking protocol: load balancers, probes. */
import { EventEmitter, on } from 'node:events';
import {
  status as Status,
  type sendUnaryData,
  type ServerUnaryCall,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import type { HealthCheckRequest, HealthCheckResponse, ServingStatus } from '../proto/health.js';
import { serverStream } from '../service/rpc.js';

/** Those that can be asked about; "": all of it. */
const SERVICES: readonly string[] = ['', 'afterimage.v1.Replication', 'afterimage.v1.ReceiverControl'];
/** Who watches at once; more are told the present state alone. */
const WATCHERS_MAX = 1024;

export class Health {
  private readonly changes = new EventEmitter().setMaxListeners(WATCHERS_MAX);
  private status: ServingStatus = 'SERVING';

  /** From now on nothing new is begun. */
  drain(): void {
    this.status = 'NOT_SERVING';
    this.changes.emit('change');
  }

  /** The handlers of healthService. */
  handlers(): UntypedServiceImplementation {
    return {
      check: (
        { request }: ServerUnaryCall<HealthCheckRequest, HealthCheckResponse>,
        callback: sendUnaryData<HealthCheckResponse>,
      ) => {
        // As the protocol wants it, which has no code of ours.
        if (!SERVICES.includes(request.service))
          callback({ code: Status.NOT_FOUND, details: 'unknown service' });
        else callback(null, { status: this.status });
      },
      watch: serverStream<HealthCheckRequest, HealthCheckResponse>((request, { signal }) =>
        this.watch(request.service, signal),
      ),
    };
  }

  private async *watch(service: string, signal: AbortSignal): AsyncGenerator<HealthCheckResponse, void> {
    const now = (): HealthCheckResponse => ({
      status: SERVICES.includes(service) ? this.status : 'SERVICE_UNKNOWN',
    });
    const isFull = this.changes.listenerCount('change') >= WATCHERS_MAX;
    const changes = isFull ? [] : on(this.changes, 'change', { signal });
    yield now();
    try {
      for await (const change of changes) {
        void change;
        yield now();
        // There is no other state after it, and a stop would wait for whoever watches.
        if (this.status === 'NOT_SERVING') return;
      }
    } catch (thrown) {
      if (!signal.aborted) throw thrown;
    }
  }
}
