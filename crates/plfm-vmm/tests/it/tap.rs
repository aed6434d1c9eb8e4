//! TAP devices, where this machine allows them.

use libtest_mimic::{Failed, Trial};
use plfm_vmm::tap::{self, TapError, TapSupport};
use plfm_vmm::{MacAddress, TapConfig};

use crate::lab::{Lab, trial};

pub fn trials(lab: &Result<Lab, String>) -> Vec<Trial> {
    let support = TapSupport::detect();
    let lab = match support {
        TapSupport::Available => lab.clone(),
        TapSupport::NoDevice | TapSupport::NotPermitted => Err(format!("no tap devices: {support:?}")),
    };
    let made = Trial::test("a_tap_device_is_made_and_deleted", || match made_and_deleted() {
        Ok(()) => Ok(()),
        Err(error) => Err(Failed::from(crate::lab::chain(&error))),
    });
    vec![
        made.with_ignored_flag(support != TapSupport::Available),
        trial(
            &lab,
            "the_guest_has_the_tap_with_its_address_and_mtu",
            |lab, dir| async move {
                let device = Device::make("n");
                let mut config = lab.config(&dir, "net");
                config.tap = Some(TapConfig {
                    name: device.0.clone(),
                    mac: MacAddress::local([0xab, 0, 1, 2, 3]),
                    mtu: 1420,
                });
                let exit = lab.run(config).await;
                assert!(
                    exit.console_tail.contains("address=02:ab:00:01:02:03\r\n"),
                    "{}",
                    exit.console_tail
                );
                assert!(
                    exit.console_tail.contains("mtu=1420\r\n"),
                    "{}",
                    exit.console_tail
                );
                assert!(tap::exists(&device.0), "the device outlives the vm");
            },
        ),
        trial(
            &lab,
            "a_tap_device_in_use_is_not_deleted",
            |lab, dir| async move {
                let device = Device::make("u");
                let mut config = lab.config(&dir, "knock");
                config.tap = Some(TapConfig {
                    name: device.0.clone(),
                    mac: MacAddress::local([1, 2, 3, 4, 5]),
                    mtu: 1500,
                });
                let vm = lab.start(config).await;
                let error = tap::delete(&device.0).unwrap_err();
                assert!(matches!(error, TapError::Busy { .. }), "{error:?}");
                vm.kill().await;
                tap::delete(&device.0).unwrap();
            },
        ),
        trial(
            &lab,
            "a_tap_device_that_does_not_exist_is_an_error",
            |lab, dir| async move {
                let mut config = lab.config(&dir, "net");
                let name = name("x");
                config.tap = Some(TapConfig {
                    name,
                    mac: MacAddress::local([0; 5]),
                    mtu: 1500,
                });
                let error = plfm_vmm::Vm::start(lab.backend(), config).await.unwrap_err();
                assert_eq!(error.code(), "tap_missing");
            },
        ),
    ]
}

fn name(suffix: &str) -> String {
    format!("pv{}{suffix}", std::process::id())
}

/// A device that does not outlive its test.
struct Device(String);

impl Device {
    fn make(suffix: &str) -> Device {
        let device = Device(name(suffix));
        tap::create(&device.0).unwrap_or_else(|error| panic!("{}", crate::lab::chain(&error)));
        device
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = tap::delete(&self.0);
    }
}

fn made_and_deleted() -> Result<(), TapError> {
    let name = name("m");
    tap::create(&name)?;
    assert!(tap::exists(&name), "it outlives the descriptor that made it");
    tap::create(&name)?;
    tap::delete(&name)?;
    assert!(!tap::exists(&name));
    tap::delete(&name)?;
    assert!(
        matches!(tap::create("lo"), Err(TapError::Other { .. })),
        "an interface of another kind"
    );
    assert_eq!(tap::create("a/b").unwrap_err().code(), "tap_name_invalid");
    Ok(())
}
