//! The tiny guest: a loop of real mode, one byte on a port, a halt. One page, one processor, no devices.

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};

/// Where the page is in the guest.
const START: u64 = 0x1000;
const PAGE_BYTES: usize = 4096;
const PORT: u16 = 0x3f8;
const BYTE: u8 = b'K';
/// Beyond the one byte and the halt: signals that come in between.
const EXITS_MAX: usize = 16;

/// Adds 50,000 times, so that the processor is really given to the guest, then says that it has.
const CODE: [u8; 17] = [
    0x31, 0xc0, // xor ax, ax
    0xb9, 0x50, 0xc3, // mov cx, 50000
    0x83, 0xc0, 0x01, // add ax, 1
    0xe2, 0xfb, // loop -5
    0xba, 0xf8, 0x03, // mov dx, 0x3f8
    0xb0, BYTE, // mov al, 'K'
    0xee, // out dx, al
    0xf4, // hlt
];

#[repr(C, align(4096))]
struct Page([u8; PAGE_BYTES]);

/// Runs it. The error is for people. May hang in the kernel: that is why this has a process of its own.
pub(super) fn run_tiny_guest() -> Result<(), String> {
    let failed = |what: &'static str| move |error: kvm_ioctls::Error| format!("{what}: {error}");
    let kvm = Kvm::new().map_err(failed("/dev/kvm can't be opened"))?;
    let vm = kvm.create_vm().map_err(failed("no vm"))?;
    let mut page = Box::new(Page([0; PAGE_BYTES]));
    for (to, from) in page.0.iter_mut().zip(CODE) {
        *to = from;
    }
    give_memory(&vm, &mut page).map_err(failed("no memory for a vm"))?;
    let mut vcpu = vm.create_vcpu(0).map_err(failed("no processor for a vm"))?;
    set_registers(&vcpu).map_err(failed("no registers"))?;
    let told = run(&mut vcpu);
    // The guest is gone before its memory.
    drop(vcpu);
    drop(vm);
    drop(page);
    told
}

#[allow(unsafe_code, reason = "memory of a guest is given to it by its address")]
fn give_memory(vm: &VmFd, page: &mut Page) -> Result<(), kvm_ioctls::Error> {
    let region = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: START,
        memory_size: PAGE_BYTES as u64,
        userspace_addr: page.0.as_mut_ptr() as u64,
    };
    // SAFETY: the region is one page, aligned and as long as `Page`; the caller keeps it until the VM is closed, and does
    // not touch it while the guest may write it.
    unsafe { vm.set_user_memory_region(region) }
}

fn set_registers(vcpu: &VcpuFd) -> Result<(), kvm_ioctls::Error> {
    let mut segments = vcpu.get_sregs()?;
    segments.cs.base = 0;
    segments.cs.selector = 0;
    vcpu.set_sregs(&segments)?;
    let mut registers = vcpu.get_regs()?;
    registers.rip = START;
    // Bit 1 is always set.
    registers.rflags = 2;
    vcpu.set_regs(&registers)
}

fn run(vcpu: &mut VcpuFd) -> Result<(), String> {
    let mut has_spoken = false;
    for _ in 0..EXITS_MAX {
        match vcpu.run() {
            Ok(VcpuExit::IoOut(PORT, [BYTE])) => has_spoken = true,
            Ok(VcpuExit::Hlt) if has_spoken => return Ok(()),
            Ok(VcpuExit::Intr) => {}
            Ok(other) => return Err(format!("a guest of a few instructions ended with {other:?}")),
            Err(error) => return Err(format!("a guest of a few instructions does not run: {error}")),
        }
    }
    Err("a guest of a few instructions does not come to its end".to_owned())
}
