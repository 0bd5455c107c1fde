//! The rivals, each as its documentation says it is used best.

use std::sync::Arc;

use disruptor::{
    EventPoller, Producer as _, SingleConsumerBarrier, SingleProducer, SingleProducerBarrier,
};
use ringbuf::traits::{Consumer as _, Producer as _, Split as _};

use crate::queues::{CAPACITY, Contender, Rx, Tx};

/// <https://docs.rs/rtrb>
#[derive(Debug)]
pub(super) enum Rtrb {}

impl Contender for Rtrb {
    type Item = usize;
    type Tx = rtrb::Producer<usize>;
    type Rx = rtrb::Consumer<usize>;
    const NAME: &'static str = "rtrb";

    fn build(_: usize, _: usize) -> (Vec<Self::Tx>, Vec<Self::Rx>) {
        let (producer, consumer) = rtrb::RingBuffer::new(CAPACITY);
        (vec![producer], vec![consumer])
    }
}

impl Tx<usize> for rtrb::Producer<usize> {
    #[inline(always)]
    fn push(&mut self, item: usize) -> bool {
        self.push(item).is_ok()
    }
    #[inline(always)]
    fn push_batch(&mut self, items: &[usize]) -> usize {
        self.push_partial_slice(items).0.len()
    }
}

impl Rx<usize> for rtrb::Consumer<usize> {
    #[inline(always)]
    fn pop(&mut self) -> Option<usize> {
        self.pop().ok()
    }
    #[inline(always)]
    fn pop_batch(&mut self, items: &mut [usize]) -> usize {
        self.pop_partial_slice(items).0.len()
    }
}

/// <https://docs.rs/ringbuf>
#[derive(Debug)]
pub(super) enum Ringbuf {}

impl Contender for Ringbuf {
    type Item = usize;
    type Tx = ringbuf::HeapProd<usize>;
    type Rx = ringbuf::HeapCons<usize>;
    const NAME: &'static str = "ringbuf";

    fn build(_: usize, _: usize) -> (Vec<Self::Tx>, Vec<Self::Rx>) {
        let (producer, consumer) = ringbuf::HeapRb::new(CAPACITY).split();
        (vec![producer], vec![consumer])
    }
}

impl Tx<usize> for ringbuf::HeapProd<usize> {
    #[inline(always)]
    fn push(&mut self, item: usize) -> bool {
        self.try_push(item).is_ok()
    }
    #[inline(always)]
    fn push_batch(&mut self, items: &[usize]) -> usize {
        self.push_slice(items)
    }
}

impl Rx<usize> for ringbuf::HeapCons<usize> {
    #[inline(always)]
    fn pop(&mut self) -> Option<usize> {
        self.try_pop()
    }
    #[inline(always)]
    fn pop_batch(&mut self, items: &mut [usize]) -> usize {
        self.pop_slice(items)
    }
}

/// <https://docs.rs/disruptor>, one producer and one polling consumer. With more consumers each
/// sees every event, which is another thing than sharing work.
#[derive(Debug)]
pub(super) enum Disruptor {}

/// Newtypes, since the producer has methods of these names.
pub(super) struct DisruptorTx(SingleProducer<usize, SingleConsumerBarrier>);

/// The polling end.
pub(super) struct DisruptorRx(EventPoller<usize, SingleProducerBarrier>);

impl std::fmt::Debug for DisruptorTx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DisruptorTx")
    }
}

impl std::fmt::Debug for DisruptorRx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DisruptorRx")
    }
}

impl Contender for Disruptor {
    type Item = usize;
    type Tx = DisruptorTx;
    type Rx = DisruptorRx;
    const NAME: &'static str = "disruptor";

    fn build(_: usize, _: usize) -> (Vec<DisruptorTx>, Vec<DisruptorRx>) {
        let builder = disruptor::build_single_producer(CAPACITY, || 0, disruptor::BusySpin);
        let (poller, builder) = builder.new_event_poller();
        (vec![DisruptorTx(builder.build())], vec![DisruptorRx(poller)])
    }
}

impl Tx<usize> for DisruptorTx {
    #[inline(always)]
    fn push(&mut self, item: usize) -> bool {
        self.0.try_publish(|event| *event = item).is_ok()
    }
    #[inline(always)]
    fn push_batch(&mut self, items: &[usize]) -> usize {
        let published = self.0.try_batch_publish(items.len(), |events| {
            events.zip(items).for_each(|(event, item)| *event = *item);
        });
        match published {
            Ok(_) => items.len(),
            // Rather part of the batch than none of it, as the others do.
            Err(missing) => {
                let free = items.len() - usize::try_from(missing.0).unwrap_or(items.len());
                if free == 0 { 0 } else { self.push_batch(&items[..free]) }
            }
        }
    }
}

impl Rx<usize> for DisruptorRx {
    #[inline(always)]
    fn pop(&mut self) -> Option<usize> {
        let mut events = self.0.take(1).ok()?;
        (&mut events).next().copied()
    }
    #[inline(always)]
    fn pop_batch(&mut self, items: &mut [usize]) -> usize {
        let Ok(mut events) = self.0.take(items.len() as u64) else { return 0 };
        let mut count = 0;
        for (place, event) in items.iter_mut().zip(&mut events) {
            *place = *event;
            count += 1;
        }
        count
    }
}

/// Ends of a queue that is shared behind an `Arc`.
macro_rules! shared_queue {
    ($(#[$doc:meta])* $name:ident, $title:literal, $queue:ty, $new:expr,
     |$q:ident, $item:ident| $push:expr, $pop:expr) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(super) struct $name(Arc<$queue>);

        impl Contender for $name {
            type Item = usize;
            type Tx = Self;
            type Rx = Self;
            const NAME: &'static str = $title;

            fn build(producers: usize, consumers: usize) -> (Vec<Self>, Vec<Self>) {
                let queue: Arc<$queue> = Arc::new($new);
                let ends = |count| (0..count).map(|_| Self(Arc::clone(&queue))).collect();
                (ends(producers), ends(consumers))
            }
        }

        impl Tx<usize> for $name {
            #[inline(always)]
            fn push(&mut self, $item: usize) -> bool {
                let $q = &*self.0;
                $push
            }
        }

        impl Rx<usize> for $name {
            #[inline(always)]
            fn pop(&mut self) -> Option<usize> {
                let $q = &*self.0;
                $pop
            }
        }
    };
}

shared_queue!(
    /// <https://docs.rs/crossbeam-queue>
    ArrayQueue, "crossbeam ArrayQueue", crossbeam_queue::ArrayQueue<usize>,
    crossbeam_queue::ArrayQueue::new(CAPACITY),
    |queue, item| queue.push(item).is_ok(), queue.pop()
);

shared_queue!(
    /// <https://docs.rs/concurrent-queue>
    ConcurrentQueue, "concurrent-queue", concurrent_queue::ConcurrentQueue<usize>,
    concurrent_queue::ConcurrentQueue::bounded(CAPACITY),
    |queue, item| queue.push(item).is_ok(), queue.pop().ok()
);

shared_queue!(
    /// <https://docs.rs/thingbuf>
    ThingBuf, "thingbuf", thingbuf::ThingBuf<usize>, thingbuf::ThingBuf::new(CAPACITY),
    |queue, item| queue.push(item).is_ok(), queue.pop()
);

/// <https://docs.rs/crossbeam-deque>, pushed by its owner and stolen from.
#[derive(Debug)]
pub(super) enum Deque {}

/// The owner's end; it is unbounded, so it looks at the length as a bounded user would.
#[derive(Debug)]
pub(super) struct DequeTx {
    worker: crossbeam_deque::Worker<usize>,
    room: usize,
}

/// A thief with a queue of its own to steal batches into.
#[derive(Debug)]
pub(super) struct DequeRx {
    stealer: crossbeam_deque::Stealer<usize>,
    own: crossbeam_deque::Worker<usize>,
}

impl Contender for Deque {
    type Item = usize;
    type Tx = DequeTx;
    type Rx = DequeRx;
    const NAME: &'static str = "crossbeam-deque";

    fn build(_: usize, consumers: usize) -> (Vec<DequeTx>, Vec<DequeRx>) {
        let worker = crossbeam_deque::Worker::new_fifo();
        let thief =
            || DequeRx { stealer: worker.stealer(), own: crossbeam_deque::Worker::new_fifo() };
        let thieves = (0..consumers).map(|_| thief()).collect();
        (vec![DequeTx { worker, room: CAPACITY }], thieves)
    }
}

impl Tx<usize> for DequeTx {
    #[inline(always)]
    fn push(&mut self, item: usize) -> bool {
        if self.room == 0 {
            self.room = CAPACITY.saturating_sub(self.worker.len());
            if self.room == 0 {
                return false;
            }
        }
        self.room -= 1;
        self.worker.push(item);
        true
    }
}

impl Rx<usize> for DequeRx {
    #[inline(always)]
    fn pop(&mut self) -> Option<usize> {
        self.stealer.steal().success()
    }

    #[inline(always)]
    fn pop_batch(&mut self, items: &mut [usize]) -> usize {
        let mut count = 0;
        if let Some(item) =
            self.stealer.steal_batch_with_limit_and_pop(&self.own, items.len()).success()
        {
            items[0] = item;
            count = 1;
            while count < items.len() {
                let Some(item) = self.own.pop() else { break };
                items[count] = item;
                count += 1;
            }
        }
        count
    }
}

/// <https://docs.rs/kanal>
#[derive(Debug)]
pub(super) enum Kanal {}

impl Contender for Kanal {
    type Item = usize;
    type Tx = kanal::Sender<usize>;
    type Rx = kanal::Receiver<usize>;
    const NAME: &'static str = "kanal";

    fn build(producers: usize, consumers: usize) -> (Vec<Self::Tx>, Vec<Self::Rx>) {
        let (sender, receiver) = kanal::bounded(CAPACITY);
        (vec![sender; producers], vec![receiver; consumers])
    }
}

impl Tx<usize> for kanal::Sender<usize> {
    #[inline(always)]
    fn push(&mut self, item: usize) -> bool {
        self.try_send(item).unwrap_or(false)
    }
}

impl Rx<usize> for kanal::Receiver<usize> {
    #[inline(always)]
    fn pop(&mut self) -> Option<usize> {
        self.try_recv().ok().flatten()
    }
}

/// `std::sync::mpsc::sync_channel`
#[derive(Debug)]
pub(super) enum SyncChannel {}

impl Contender for SyncChannel {
    type Item = usize;
    type Tx = std::sync::mpsc::SyncSender<usize>;
    type Rx = std::sync::mpsc::Receiver<usize>;
    const NAME: &'static str = "std sync_channel";

    fn build(producers: usize, _: usize) -> (Vec<Self::Tx>, Vec<Self::Rx>) {
        let (sender, receiver) = std::sync::mpsc::sync_channel(CAPACITY);
        (vec![sender; producers], vec![receiver])
    }
}

impl Tx<usize> for std::sync::mpsc::SyncSender<usize> {
    #[inline(always)]
    fn push(&mut self, item: usize) -> bool {
        self.try_send(item).is_ok()
    }
}

impl Rx<usize> for std::sync::mpsc::Receiver<usize> {
    #[inline(always)]
    fn pop(&mut self) -> Option<usize> {
        self.try_recv().ok()
    }
}
