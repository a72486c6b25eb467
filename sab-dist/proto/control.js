import { codec } from './codec.js';
/**
 * Longest message on a control socket, bytes. Answers are lists without pages: about a million checkpoints, each with
 * its name, group and position.
 */
export const CONTROL_MESSAGE_BYTES_MAX = 64 * 1024 * 1024;
function method(service, name, request, response, responseStream = false) {
    const requestCodec = codec(request);
    const responseCodec = codec(response);
    return {
        path: `/afterimage.v1.${service}/${name}`,
        requestStream: false,
        responseStream,
        requestSerialize: (value) => requestCodec.encode(value),
        requestDeserialize: (bytes) => requestCodec.decode(bytes),
        responseSerialize: (value) => responseCodec.encode(value),
        responseDeserialize: (bytes) => responseCodec.decode(bytes),
    };
}
/** On the agent's control socket. */
export const agentControlService = {
    status: method('AgentControl', 'Status', 'StatusRequest', 'AgentStatus'),
    checkpointCreate: method('AgentControl', 'CheckpointCreate', 'CheckpointCreateRequest', 'CheckpointInfo'),
};
const R = 'ReceiverControl';
/** On the receiver's control socket. */
export const receiverControlService = {
    status: method(R, 'Status', 'StatusRequest', 'ReceiverStatus'),
    timeline: method(R, 'Timeline', 'TimelineRequest', 'Timeline'),
    point: method(R, 'Point', 'PointRequest', 'PointInfo'),
    checkpointCreate: method(R, 'CheckpointCreate', 'CheckpointCreateRequest', 'CheckpointInfo'),
    checkpointList: method(R, 'CheckpointList', 'CheckpointListRequest', 'CheckpointList'),
    checkpointPin: method(R, 'CheckpointPin', 'CheckpointPinRequest', 'CheckpointInfo'),
    checkpointDelete: method(R, 'CheckpointDelete', 'CheckpointDeleteRequest', 'CheckpointDeleted'),
    exportOpen: method(R, 'ExportOpen', 'ExportOpenRequest', 'ExportInfo'),
    exportList: method(R, 'ExportList', 'ExportListRequest', 'ExportList'),
    exportClose: method(R, 'ExportClose', 'ExportCloseRequest', 'ExportClosed'),
    scrub: method(R, 'Scrub', 'ScrubRequest', 'ScrubProgress', true),
    recover: method(R, 'Recover', 'RecoverRequest', 'RecoverProgress', true),
};
//# sourceMappingURL=control.js.map